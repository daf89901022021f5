"""The version of this product, also where it runs from a folder and is not installed."""

VERSION = "0.1.0"
