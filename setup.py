"""All metadata is in setup.cfg; this file lets tools that look for a setup.py find the project."""

from setuptools import setup

setup()
