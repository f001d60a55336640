"""The shipped models become a folder of the wheel, `rtuncertainty/models`; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages("RTUncertainty", include=["rtuncertainty*", "RTUncertaintyLib*"]),
        *find_packages(".", include=["training*"]),
        "rtuncertainty.models",
    ],
)
