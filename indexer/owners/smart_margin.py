"""Kwenta's smart margin accounts, which trade Synthetix perps of version 2; they may be liquidated
elsewhere too."""

from indexer.account_model import Way
from indexer.evm_model import Deployment
from indexer.owner_answers import has_code, kept_by

WAY = Way(
    method="smart_margin",
    ask=kept_by("getAccountOwner(address)"),  # Kwenta/smart-margin:src/Factory.sol
    is_for=has_code,
    vouchers=(
        Deployment(
            "optimism", "0x8234F990b149Ae59416dc260305E565e5DAfEb54", "smart_margin", "factory",
            None, "Kwenta/smart-margin:script/utils/parameters/OptimismParameters.sol",
        ),
    ),
)  # fmt: skip
