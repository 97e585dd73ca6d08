// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// What stands around the genuine contracts of perpetuals on the local chain.

/// The index price of Perp v2's base tokens: the dispatcher and whatever is behind it.
contract IndexFeed {
    uint256 public price;

    function set(uint256 to) external {
        price = to;
    }

    function decimals() external pure returns (uint8) {
        return 18;
    }

    function getPrice(uint256) external view returns (uint256) {
        return price;
    }

    function getDispatchedPrice(uint256) external view returns (uint256) {
        return price;
    }

    function dispatchPrice(uint256) external {}

    function cacheTwap(uint256) external view returns (uint256) {
        return price;
    }
}

/// All of Synthetix that its markets ask and that is no part of them: rates, the exchanger, the
/// system's status, the fee pool, and sUSD, of which it says who got how much.
contract Synthetix {
    mapping(bytes32 => uint256) public rateOf;
    mapping(address => uint256) public balanceOf;
    address public constant FEE_ADDRESS = 0xfeEFEEfeefEeFeefEEFEEfEeFeefEEFeeFEEFEeF;

    function setRate(bytes32 of_, uint256 to) external {
        rateOf[of_] = to;
    }

    // ExchangeRates
    function rateAndInvalid(bytes32 of_) external view returns (uint256, bool) {
        return (rateOf[of_], false);
    }

    function rateWithSafetyChecks(bytes32 of_) external view returns (uint256, bool, bool) {
        return (rateOf[of_], false, false);
    }

    // ExchangeCircuitBreaker
    function rateWithInvalid(bytes32 of_) external view returns (uint256, bool) {
        return (rateOf[of_], false);
    }

    function rateWithBreakCircuit(bytes32 of_) external view returns (uint256, bool) {
        return (rateOf[of_], false);
    }

    // Exchanger
    function dynamicFeeRateForExchange(bytes32, bytes32) external pure returns (uint256, bool) {
        return (0, false);
    }

    function settle(address, bytes32) external pure returns (uint256, uint256, uint256) {
        return (0, 0, 0);
    }

    // SystemStatus
    function requireFuturesMarketActive(bytes32) external view {}

    function requireSynthActive(bytes32) external view {}

    function synthSuspended(bytes32) external pure returns (bool) {
        return false;
    }

    // SynthsUSD
    function issue(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function burn(address from, uint256 value) external {
        balanceOf[from] -= value;
    }

    // FeePool
    function recordFeePaid(uint256) external {}
}
