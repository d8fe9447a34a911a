"""Settings of `perdure admin`, the API's by the same names: nothing else in `admin` reads variables."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from activities.secrets import MasterKeys
from activities.settings import DEV_STATE, AcceptingSettings, Environment


class AdminSettings(AcceptingSettings, BaseSettings):
    """All settings; each is `PERDURE_` and its name in capitals. The API's of the same name mean the same."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", frozen=True, extra="ignore")

    backup_passphrase: SecretStr | None = None
    """Seals the master keys in a backup; better given as a file."""

    def open_master_keys(self) -> MasterKeys:
        """The master keys. Raises KeyringInvalidError."""
        file = self.master_keys_file
        if file is None and self.environment is Environment.DEV:
            file = DEV_STATE / "master-keys"
        return self.read_master_keys(file, create=False)
