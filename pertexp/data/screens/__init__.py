"""Screens: cells × genes under perturbation."""
