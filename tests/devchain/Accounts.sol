// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// Owners on the local chain. All of it is SIMULATED: it stands for contracts that no registry has,
// with the functions that ours are asked for.

/// SIMULATED: a proxy as DSProxy, which says who owns it.
contract OwnedProxy {
    address public owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function setOwner(address owner_) external {
        owner = owner_;
    }
}

/// SIMULATED: as DSProxyFactory, which knows the proxies that it has made.
contract ProxyFactory {
    mapping(address => bool) public isProxy;
    address public last;

    function build(address owner) external {
        last = address(new OwnedProxy(owner));
        isProxy[last] = true;
    }
}

contract Urn {}

/// SIMULATED: as Maker's CDP manager, which makes one urn a vault and nothing else.
contract Vaults {
    uint256 public cdpi;
    mapping(uint256 => address) public urns;
    mapping(uint256 => address) public owns;

    function open(address owner) external {
        cdpi += 1;
        urns[cdpi] = address(new Urn());
        owns[cdpi] = owner;
    }

    function give(uint256 vault, address owner) external {
        owns[vault] = owner;
    }
}

/// SIMULATED: as Euler's connector.
contract Connector {
    mapping(address => address) public getAccountOwner;

    function register(address account, address owner) external {
        getAccountOwner[account] = owner;
    }
}

/// SIMULATED: NFTs, of which nobody owns what does not exist.
contract Nfts {
    mapping(uint256 => address) private owners;

    function ownerOf(uint256 id) external view returns (address) {
        require(owners[id] != address(0), "no such id");
        return owners[id];
    }

    function put(uint256 id, address owner) external {
        owners[id] = owner;
    }
}

/// SIMULATED: a trove manager of Liquity v2.
contract Troves {
    address public troveNFT;

    constructor(address nft) {
        troveNFT = nft;
    }
}

/// SIMULATED: says that it is a Safe and a smart account, and is neither.
contract Pretender {
    address private singleton; // in slot 0, as a Safe's proxy has it
    address public entryPoint;
    address public owner;

    constructor(address singleton_, address entryPoint_) {
        singleton = singleton_;
        entryPoint = entryPoint_;
        owner = msg.sender;
    }

    function VERSION() external pure returns (string memory) {
        return "1.3.0";
    }

    function getThreshold() external pure returns (uint256) {
        return 3;
    }

    function getOwners() external view returns (address[] memory) {
        address[] memory owners = new address[](1);
        owners[0] = owner;
        return owners;
    }
}
