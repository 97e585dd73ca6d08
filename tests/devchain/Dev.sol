// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// What stands around the genuine contracts on the local chain.

/// A token that anybody may mint.
contract Token {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    string public name;
    uint8 public immutable decimals;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    constructor(string memory name_, uint8 decimals_) {
        name = name_;
        decimals = decimals_;
    }

    function symbol() external view returns (string memory) {
        return name;
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return _move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        allowance[from][msg.sender] -= value;
        return _move(from, to, value);
    }

    function _move(address from, address to, uint256 value) private returns (bool) {
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
        return true;
    }
}

/// Prices set by hand, under the names by which each protocol asks its oracle.
contract Prices {
    mapping(address => uint256) public priceOf;

    function set(address what, uint256 to) external {
        priceOf[what] = to;
    }

    // Aave: of a token
    function getAssetPrice(address asset) external view returns (uint256) {
        return priceOf[asset];
    }

    // Compound until 2020: of a token or of a key, in ether
    function assetPrices(address asset) external view returns (uint256) {
        return priceOf[asset];
    }

    // Morpho: an oracle for each market, of its collateral in its loan token
    function price() external view returns (uint256) {
        return priceOf[address(this)];
    }

    // Venus: of the token behind a market; its core pool has a second oracle with two prices
    function getUnderlyingPrice(address market) external view returns (uint256) {
        return priceOf[market];
    }

    function getBoundedPricesView(address market) external view returns (uint256, uint256) {
        return (priceOf[market], priceOf[market]);
    }

    function updatePrice(address) external {}

    function updateProtectionState(address) external {}
}

/// Lets everybody do everything: in the place of Venus' access control manager.
contract Permits {
    function isAllowedToCall(address, string calldata) external pure returns (bool) {
        return true;
    }
}

/// Takes any call: in the place of the contract that shares out Venus' income.
contract Sink {
    fallback() external {}
}
