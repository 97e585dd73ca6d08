// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// What stands around the genuine contracts of lenders on the local chain.

/// In the place of Gearbox' address provider and of its factory of market configurators.
/// Gearbox-protocol/permissionless:contracts/instance/AddressProvider.sol
contract GearboxProvider {
    mapping(bytes32 => address) private known;
    address[] private configurators;

    function set(bytes32 key, address to) external {
        known[key] = to;
    }

    function adopt(address configurator) external {
        configurators.push(configurator);
    }

    function getAddressOrRevert(bytes32 key, uint256) external view returns (address) {
        require(known[key] != address(0), "unknown key");
        return known[key];
    }

    function getMarketConfigurators() external view returns (address[] memory) {
        return configurators;
    }
}

/// In the place of a curator's market configurator, with its access control and its register.
/// Gearbox-protocol/permissionless:contracts/market/MarketConfigurator.sol
contract GearboxCurator {
    address private immutable owner = msg.sender;
    mapping(address => bool) public isPool;
    mapping(address => bool) public isCreditManager;

    function register(address pool, address manager) external {
        (isPool[pool], isCreditManager[manager]) = (true, true);
    }

    function contractsRegister() external view returns (address) {
        return address(this);
    }

    function isConfigurator(address account) external view returns (bool) {
        return account == owner;
    }

    function hasRole(bytes32, address) external pure returns (bool) {
        return false;
    }
}
