"""Rules for nftables."""
