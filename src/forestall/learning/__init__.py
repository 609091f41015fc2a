"""Forecasters, their online combination and calibration: numpy in, numpy out."""
