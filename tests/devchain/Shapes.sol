// SPDX-License-Identifier: MIT
// Contracts of the tests: whatever a contract could have logged is logged for real.
pragma solidity ^0.8.19;

/// Logs what it is called with: the number of topics in one byte, the topics, the data.
contract Emitter {
    fallback() external {
        assembly {
            let topics := byte(0, calldataload(0))
            let head := add(1, mul(32, topics))
            let size := sub(calldatasize(), head)
            calldatacopy(0, head, size)
            switch topics
            case 0 { log0(0, size) }
            case 1 { log1(0, size, calldataload(1)) }
            case 2 { log2(0, size, calldataload(1), calldataload(33)) }
            case 3 { log3(0, size, calldataload(1), calldataload(33), calldataload(65)) }
            case 4 {
                log4(0, size, calldataload(1), calldataload(33), calldataload(65), calldataload(97))
            }
            default { revert(0, 0) }
        }
    }
}

/// Has emitters log one after the other, in one transaction.
contract Conductor {
    function play(address[] calldata emitters, bytes[] calldata logs) external {
        for (uint256 at = 0; at < emitters.length; at++) {
            (bool done, ) = emitters[at].call(logs[at]);
            require(done, "an emitter failed");
        }
    }
}
