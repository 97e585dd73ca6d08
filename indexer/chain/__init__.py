"""Follows EVM chains: reads blocks, writes them a step at a time, reads and derives them again."""
