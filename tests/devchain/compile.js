// The compiler inside the npm package, whose own driver wants six packages more.
// node compile.js SOLJSON <input.json >output.json, both in solc's standard JSON.
const { readFileSync, writeFileSync } = require("fs");

const soljson = require(process.argv[2]);
const compile = soljson.cwrap("solidity_compile", "string", ["string", "number", "number"]);
writeFileSync(1, compile(readFileSync(0, "utf8"), 0, 0));
