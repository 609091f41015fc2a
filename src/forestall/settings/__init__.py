"""The only reader of settings: files of an operator, and the environment."""

from forestall.settings.cables import load_cables
from forestall.settings.configuration import configuration_file, load_configuration
from forestall.settings.policy import load_policy, parse_policy, read_policy
from forestall.settings.remote import Remote, remote_api
from forestall.settings.toml_file import MOST_BYTES

__all__ = [
    "MOST_BYTES",
    "Remote",
    "configuration_file",
    "load_cables",
    "load_configuration",
    "load_policy",
    "parse_policy",
    "read_policy",
    "remote_api",
]
