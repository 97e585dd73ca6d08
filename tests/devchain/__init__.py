"""A local chain on which the genuine contracts of eight protocols liquidate, for tests.

anvil and the contracts come from pinned npm packages, nothing of which is kept here; ours are only
the tokens, the prices and what else stands around them. What a liquidation did is read from the
state of the contracts before and after its block, never from its event: that is the second opinion.
"""
