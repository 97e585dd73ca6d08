// SPDX-License-Identifier: MIT
pragma solidity 0.8.19;

// What values are made of on the local chain. All of it is ours: the feeds look as Chainlink's do,
// and what says SIMULATED stands for a protocol whose contracts no registry has.

interface Feed {
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80);
}

/// A feed that reports as Chainlink's aggregators do, with one log for each answer.
contract Aggregator {
    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    uint8 public immutable decimals;
    string public description;
    int256 public latestAnswer;
    uint256 public latestRound;
    uint256 public latestTimestamp;
    bool public isBroken;

    constructor(uint8 decimals_, string memory description_, int256 answer) {
        decimals = decimals_;
        description = description_;
        report(answer);
    }

    function report(int256 answer) public {
        latestAnswer = answer;
        latestRound += 1;
        latestTimestamp = block.timestamp;
        emit AnswerUpdated(answer, latestRound, block.timestamp);
    }

    /// Its state, without a log: what no reader of logs can know.
    function turn(int256 answer, uint256 updatedAt, bool isBroken_) external {
        (latestAnswer, latestTimestamp, isBroken) = (answer, updatedAt, isBroken_);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        require(!isBroken, "broken");
        uint80 round = uint80(latestRound);
        return (round, latestAnswer, latestTimestamp, latestTimestamp, round);
    }
}

/// What users of a feed are given: the aggregator behind it can be another one tomorrow.
contract FeedProxy {
    uint16 public phaseId;
    address public aggregator;
    mapping(uint16 => address) public phaseAggregators;

    constructor(address aggregator_) {
        turnTo(aggregator_);
    }

    function turnTo(address aggregator_) public {
        (aggregator, phaseId) = (aggregator_, phaseId + 1);
        phaseAggregators[phaseId] = aggregator_;
    }

    function decimals() external view returns (uint8) {
        return Aggregator(aggregator).decimals();
    }

    function description() external view returns (string memory) {
        return Aggregator(aggregator).description();
    }

    function latestAnswer() external view returns (int256) {
        (, int256 answer, , , ) = latestRoundData();
        return answer;
    }

    function latestTimestamp() external view returns (uint256) {
        return Aggregator(aggregator).latestTimestamp();
    }

    function latestRoundData() public view returns (uint80, int256, uint256, uint256, uint80) {
        (uint80 round, int256 answer, uint256 from, uint256 to, ) =
            Aggregator(aggregator).latestRoundData();
        uint80 own = (uint80(phaseId) << 64) | round;
        return (own, answer, from, to, own);
    }
}

/// Does several things in one transaction, and is the liquidator where one of them is that.
contract Together {
    function run(address[] calldata targets, bytes[] calldata data) external {
        for (uint256 i = 0; i < targets.length; i++) {
            (bool done, bytes memory said) = targets[i].call(data[i]);
            if (!done) {
                assembly {
                    revert(add(said, 32), mload(said))
                }
            }
        }
    }
}

/// A token that says neither decimals nor name, nor symbol.
contract Mute {
    event Transfer(address indexed from, address indexed to, uint256 value);

    mapping(address => uint256) public balanceOf;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address, uint256) external pure returns (bool) {
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return transferFrom(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) public returns (bool) {
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
        return true;
    }
}

/// SIMULATED Compound v3: the views by which a Comet says its prices, and an absorption with the
/// arithmetic and the logs of a genuine one, but without interest or tokens.
/// compound-finance/comet:contracts/Comet.sol
contract CometLike {
    event AbsorbDebt(
        address indexed absorber, address indexed borrower, uint256 basePaidOut, uint256 usdValue
    );
    event AbsorbCollateral(
        address indexed absorber,
        address indexed borrower,
        address indexed asset,
        uint256 collateralAbsorbed,
        uint256 usdValue
    );
    event Transfer(address indexed from, address indexed to, uint256 amount);

    struct AssetInfo {
        uint8 offset;
        address asset;
        address priceFeed;
        uint64 scale;
        uint64 borrowCollateralFactor;
        uint64 liquidateCollateralFactor;
        uint64 liquidationFactor;
        uint128 supplyCap;
    }

    uint64 private constant FACTOR_SCALE = 1e18;
    address public immutable baseToken;
    address public immutable baseTokenPriceFeed;
    uint256 public immutable baseScale;
    uint8 public immutable decimals;
    AssetInfo[] private assets;
    mapping(address => int256) public basic;
    mapping(address => mapping(address => uint128)) public userCollateral;

    constructor(address baseToken_, address feed, uint8 decimals_) {
        (baseToken, baseTokenPriceFeed, decimals) = (baseToken_, feed, decimals_);
        baseScale = 10 ** decimals_;
    }

    function list(address asset, address feed, uint64 scale, uint64 liquidationFactor) external {
        uint8 offset = uint8(assets.length);
        assets.push(AssetInfo(offset, asset, feed, scale, 0, 0, liquidationFactor, 2 ** 127));
    }

    function numAssets() external view returns (uint8) {
        return uint8(assets.length);
    }

    function getAssetInfo(uint8 i) public view returns (AssetInfo memory) {
        return assets[i];
    }

    function getAssetInfoByAddress(address asset) external view returns (AssetInfo memory) {
        for (uint256 i = 0; i < assets.length; i++) {
            if (assets[i].asset == asset) return assets[i];
        }
        revert("BadAsset");
    }

    function getPrice(address feed) public view returns (uint256) {
        (, int256 price, , , ) = Feed(feed).latestRoundData();
        require(price > 0, "BadPrice");
        return uint256(price);
    }

    function borrowBalanceOf(address account) external view returns (uint256) {
        return basic[account] < 0 ? uint256(-basic[account]) : 0;
    }

    function balanceOf(address account) external view returns (uint256) {
        return basic[account] > 0 ? uint256(basic[account]) : 0;
    }

    /// An account as it may have become: nothing is moved, nothing is checked.
    function become(address account, uint256 debt, address asset, uint128 amount) external {
        basic[account] = -int256(debt);
        userCollateral[account][asset] = amount;
    }

    function absorb(address absorber, address[] calldata accounts) external {
        for (uint256 i = 0; i < accounts.length; i++) absorbOne(absorber, accounts[i]);
    }

    function absorbOne(address absorber, address account) private {
        uint256 basePrice = getPrice(baseTokenPriceFeed);
        uint256 worth = 0;
        for (uint256 i = 0; i < assets.length; i++) {
            AssetInfo memory info = assets[i];
            uint128 seized = userCollateral[account][info.asset];
            if (seized == 0) continue;
            userCollateral[account][info.asset] = 0;
            userCollateral[address(this)][info.asset] += seized;
            uint256 value = seized * getPrice(info.priceFeed) / info.scale;
            worth += value * info.liquidationFactor / FACTOR_SCALE;
            emit AbsorbCollateral(absorber, account, info.asset, seized, value);
        }
        int256 old = basic[account];
        int256 left = old + int256(worth * baseScale / basePrice);
        if (left < 0) left = 0;
        basic[account] = left;
        uint256 paid = uint256(left - old);
        emit AbsorbDebt(absorber, account, paid, paid * basePrice / baseScale);
        if (left > 0) emit Transfer(address(0), account, uint256(left));
    }
}

interface Vault {
    function asset() external view returns (address);

    function convertToAssets(uint256 shares) external view returns (uint256);
}

/// SIMULATED Euler v2 router: prices as fractions, and shares of vaults resolved into their asset.
/// euler-xyz/euler-price-oracle:src/EulerRouter.sol
contract EulerRouterLike {
    struct Price {
        uint256 out;
        uint256 per;
    }

    mapping(address => mapping(address => Price)) private prices;
    mapping(address => address) public resolvedVaults;
    address public governor = msg.sender;

    function set(address base, address quote, uint256 out, uint256 per) external {
        prices[base][quote] = Price(out, per);
    }

    function resolve(address vault) external {
        resolvedVaults[vault] = Vault(vault).asset();
    }

    function getQuote(uint256 amount, address base, address quote) external view returns (uint256) {
        if (base == quote) return amount;
        Price memory price = prices[base][quote];
        if (price.per != 0) return amount * price.out / price.per;
        require(resolvedVaults[base] != address(0), "PriceOracle_NotSupported");
        uint256 assets = Vault(base).convertToAssets(amount);
        return this.getQuote(assets, resolvedVaults[base], quote);
    }
}

/// SIMULATED Euler v2 vault: its views, and the log of a liquidation whose two amounts are given.
/// euler-xyz/euler-vault-kit:src/EVault/modules/Liquidation.sol
contract EulerVaultLike {
    event Liquidate(
        address indexed liquidator,
        address indexed violator,
        address collateral,
        uint256 repayAssets,
        uint256 yieldBalance
    );
    event DebtSocialized(address indexed account, uint256 assets);

    address public immutable asset;
    address public immutable oracle;
    address public immutable unitOfAccount;
    uint8 public immutable decimals;
    uint256 private assetsPer1e18 = 1e18;

    constructor(address asset_, address oracle_, address unit, uint8 decimals_) {
        (asset, oracle, unitOfAccount, decimals) = (asset_, oracle_, unit, decimals_);
    }

    function symbol() external pure returns (string memory) {
        return "eVault";
    }

    function name() external pure returns (string memory) {
        return "eVault";
    }

    function earn(uint256 assetsPer1e18_) external {
        assetsPer1e18 = assetsPer1e18_;
    }

    function convertToAssets(uint256 shares) external view returns (uint256) {
        return shares * assetsPer1e18 / 1e18;
    }

    function liquidate(
        address violator, address collateral, uint256 repay, uint256 yield_, uint256 socialized
    ) external {
        if (socialized > 0) emit DebtSocialized(violator, socialized);
        emit Liquidate(msg.sender, violator, collateral, repay, yield_);
    }
}

/// SIMULATED Euler v2 factory, which knows its vaults, and connector, which knows no owners.
/// euler-xyz/euler-vault-kit:src/GenericFactory/GenericFactory.sol
/// euler-xyz/ethereum-vault-connector:src/EthereumVaultConnector.sol
contract EulerFactoryLike {
    event ProxyCreated(
        address indexed proxy, bool upgradeable, address implementation, bytes trailingData
    );

    mapping(address => bool) public isProxy;

    function adopt(EulerVaultLike vault) external {
        isProxy[address(vault)] = true;
        bytes memory trailing =
            abi.encodePacked(vault.asset(), vault.oracle(), vault.unitOfAccount());
        emit ProxyCreated(address(vault), true, address(0), trailing);
    }

    function getAccountOwner(address) external pure returns (address) {
        return address(0);
    }
}
