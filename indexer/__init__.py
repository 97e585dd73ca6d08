"""On-chain DEX liquidations in Postgres, each row traceable to the bytes that were published."""
