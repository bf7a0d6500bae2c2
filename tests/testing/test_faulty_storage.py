"""The fault-injecting storage is a storage: without faults it passes what every storage must pass."""

import pytest

from memstore.fs.local import LocalStorage
from memstore.fs.storage import Storage
from memstore.testing.faulty import FaultyStorage
from memstore.testing.storage_suite import StorageSuite


class TestFaultyStorage(StorageSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return FaultyStorage(LocalStorage())

    @pytest.fixture
    def root(self, tmp_path) -> str:
        return str(tmp_path)
