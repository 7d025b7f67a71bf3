"""The kernel's edge without a kernel: /dev/i2c-N and serial ports for any Python program, with the chip models behind them."""
