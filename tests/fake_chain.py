"""Contracts that answer calls as a test says; calls and answers are encoded by others' code."""

from collections.abc import Sequence
from typing import Any

from eth_abi import abi
from eth_utils import function_signature_to_4byte_selector
from hypothesis import strategies as st

from indexer.evm_model import CallResult, EthCall

Answers = dict[EthCall, CallResult]
REVERTED = CallResult(is_ok=False, data=b"")
NOTHING = CallResult(is_ok=True, data=b"")

WORDS = st.sampled_from([0, 1, 2, 32, 160, 2**16, 2**160 - 1, 2**160, 2**256 - 1])
# What a hostile contract may return: any bytes, and words that nearly make sense.
RESULTS = st.builds(
    CallResult,
    is_ok=st.booleans(),
    data=st.binary(max_size=300)
    | st.lists(WORDS, max_size=9).map(lambda words: b"".join(w.to_bytes(32, "big") for w in words)),
)


class FakeChain:
    """Reverts where no answer is given, and keeps what was asked in which round."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.rounds: list[list[EthCall]] = []

    def call_many(self, calls: Sequence[EthCall]) -> list[CallResult]:
        """What each contract answers."""
        self.rounds.append(list(calls))
        return [self.answers.get(call, REVERTED) for call in calls]


def asked(to: str, signature: str, *values: Any) -> EthCall:
    """The call of a function without tuples among its arguments."""
    types = [kind for kind in signature.partition("(")[2].rstrip(")").split(",") if kind]
    selector = function_signature_to_4byte_selector(signature)
    return EthCall(to.lower(), "0x" + (selector + abi.encode(types, values)).hex())


def says(types: str, *values: Any) -> CallResult:
    """An answer of types that are separated by blanks."""
    return CallResult(is_ok=True, data=abi.encode(types.split(), values))
