"""The engines: `jetstream` for what must last, `memory` for tests and ephemeral hosts."""
