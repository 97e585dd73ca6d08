"""Alerts: messages on large liquidations, sent by a process of its own."""
