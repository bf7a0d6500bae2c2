"""What tests of memstore and of its extensions stand on; production never imports it."""
