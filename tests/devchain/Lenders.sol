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

interface Coin {
    function mint(address to, uint256 value) external;

    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// Gives whatever is asked for: in the place of the exchanges that accounts of Gearbox v2 trade at.
contract Exchange {
    function swap(Coin from, uint256 amount, Coin to, uint256 got) external {
        from.transferFrom(msg.sender, address(this), amount);
        to.mint(msg.sender, got);
    }
}

interface Manager {
    function creditFacade() external view returns (address);

    function getCreditAccountOrRevert(address borrower) external view returns (address);

    function approveCreditAccount(address, address target, address token, uint256 amount) external;

    function executeOrder(address, address target, bytes memory) external returns (bytes memory);

    function checkAndEnableToken(address account, address token) external;
}

/// Ours for that exchange; while it is called the facade owns the account.
/// Gearbox-protocol/core-v2:contracts/adapters/AbstractAdapter.sol
contract GearboxAdapter {
    Manager public immutable creditManager;
    address public immutable targetContract;

    constructor(Manager manager, address target) {
        (creditManager, targetContract) = (manager, target);
    }

    function swap(address from, uint256 amount, address to, uint256 got) external {
        address owner = creditManager.creditFacade();
        creditManager.approveCreditAccount(owner, targetContract, from, amount);
        creditManager.executeOrder(owner, targetContract, msg.data);
        creditManager.checkAndEnableToken(creditManager.getCreditAccountOrRevert(owner), to);
    }
}
