// SPDX-License-Identifier: MIT
pragma solidity ^0.8.10;

// What Gearbox v2 asks a feed, in the place of a package of Chainlink's.
interface AggregatorV3Interface {
    function decimals() external view returns (uint8);

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80);
}
