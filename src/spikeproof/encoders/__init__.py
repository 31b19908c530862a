"""Pixels to what the network sees over time, one file an encoder, every one with a pixel gradient.

The threat is on pixels, so a gradient must cross the encoder: exactly (direct), through the mean (Poisson), or by the
slope over a finite step (phase, latency), because the true derivative of a quantiser is 0 almost everywhere.
"""
