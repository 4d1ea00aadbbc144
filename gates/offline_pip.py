"""What ansible-test calls get-pip: here it installs pip out of the wheel that CPython's ensurepip carries.

ansible-test bootstraps its own environments with a script that it downloads unless that script lies in its cache. This
file is copied there, so that the only thing fetched is packages, through pip's own index settings. It must run alone.
"""

import ensurepip
import pathlib
import sys
import sysconfig

# Distributions (Debian, Fedora) keep the wheels of all their Pythons in one folder of the system.
place = sysconfig.get_config_var("WHEEL_PKG_DIR") or pathlib.Path(ensurepip.__file__).parent / "_bundled"
wheels = sorted(pathlib.Path(place).glob("pip-*.whl"))
if not wheels:
    sys.exit("This Python has no bundled pip (ensurepip was removed from it): install its venv package.")
sys.path.insert(0, str(wheels[0]))

from pip._internal.cli.main import main  # noqa: E402

# Options of the real script that pip itself does not know.
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--upgrade", "--force-reinstall", *wanted]))
