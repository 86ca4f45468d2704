"""The log on NATS JetStream: one stream a shard, always flushed before an acknowledgement."""

from trunkline.log.engines.jetstream.log import JetStreamLog, open_jetstream

__all__ = ["JetStreamLog", "open_jetstream"]
