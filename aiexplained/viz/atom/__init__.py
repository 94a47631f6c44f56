"""Figures of the page on ATOM and ATOMesh."""
