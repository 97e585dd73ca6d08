// SPDX-License-Identifier: MIT
pragma solidity ^0.8.10;

// In the place of Gearbox' types of feeds, which are in a package that npm does not have. The oracle
// asks no feed for it.
enum PriceFeedType {
    CHAINLINK_ORACLE
}
