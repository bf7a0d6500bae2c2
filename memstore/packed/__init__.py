"""Packed files, warm and cold: zstd frames of whole lines, and a seek table behind them."""
