"""Devices, prices and efficiency constants as data with sources, and their loader."""
