"""Packs configs/ into the wheel as benchmark/configs; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # a checkout uses its own configs/
            shutil.copytree("configs", Path(self.build_lib, "benchmark", "configs"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
