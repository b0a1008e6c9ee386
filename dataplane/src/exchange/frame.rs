//! One unit on the wire: a 32-byte header and a payload.
//!
//! Owns: [`Frame`] (a checked header), encoding and decoding, the handshake's payload. Wire types stop here.
//! Invariant: decoding any 32 bytes gives a frame whose payload length is within bounds for its kind, or an error that
//! says what is wrong; it never panics.
//! Left out: sockets, sequence and credit checks (they need a channel's state, [`crate::exchange::remote`]).

use flatbuffers::FlatBufferBuilder;
use ringflow_schemas::PROTOCOL_VERSION;
use ringflow_schemas::exchange::{
    ChannelKey as WireKey, FrameHeader, FrameKind, Hello as WireHello, HelloArgs,
};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};

use crate::limits::{ELEMENT_ALIGN, FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX};

/// First bytes of every frame: "RING" read as a little-endian integer.
pub const MAGIC: u32 = u32::from_le_bytes(*b"RING");

/// Longest payload of a handshake.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Payload of an OpenChannel frame.
pub const CHANNEL_KEY_BYTES: usize = 40;
const _: () = assert!(
    size_of::<WireKey>() == CHANNEL_KEY_BYTES && size_of::<FrameHeader>() == FRAME_HEADER_BYTES
);

/// Why bytes are not a frame: the peer broke the protocol, or is no ringflow TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our protocol.
    #[error(
        "bytes do not start with a frame (magic {0:#010x}); is the peer a ringflow TaskManager?"
    )]
    Magic(u32),
    /// Another version of it.
    #[error(
        "peer speaks protocol version {0}, this is version {PROTOCOL_VERSION}; run the same ringflow on all hosts"
    )]
    Version(u8),
    /// No such kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A payload that this kind cannot have.
    #[error("frame of kind {kind} announces a payload of {bytes} bytes")]
    Payload {
        /// Kind, as on the wire.
        kind: u8,
        /// Announced length.
        bytes: u32,
    },
    /// A handshake that is not one.
    #[error("the handshake is no Hello: {0}")]
    Hello(String),
}

/// Names one parallel edge of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    /// The job.
    pub job: JobId,
    /// Edge of the stream graph.
    pub edge: u32,
    /// Producing subtask and its attempt.
    pub producer: (u32, u32),
    /// Consuming subtask and its attempt.
    pub consumer: (u32, u32),
}

impl ChannelKey {
    /// The channel of `edge` between two attempts.
    #[must_use]
    pub fn new(edge: u32, producer: &ExecutionAttemptId, consumer: &ExecutionAttemptId) -> Self {
        Self {
            job: producer.job,
            edge,
            producer: (producer.subtask, producer.attempt),
            consumer: (consumer.subtask, consumer.attempt),
        }
    }

    /// As on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; CHANNEL_KEY_BYTES] {
        let (high, low) = self.job.halves();
        let (producer, consumer) = (self.producer, self.consumer);
        WireKey::new(
            high, low, self.edge, producer.0, producer.1, consumer.0, consumer.1, 0,
        )
        .0
    }

    /// Reads the payload of an OpenChannel frame.
    #[must_use]
    pub fn decode(bytes: [u8; CHANNEL_KEY_BYTES]) -> Self {
        let wire = WireKey(bytes);
        Self {
            job: JobId::from_halves(wire.job_high(), wire.job_low()),
            edge: wire.edge(),
            producer: (wire.producer_subtask(), wire.producer_attempt()),
            consumer: (wire.consumer_subtask(), wire.consumer_attempt()),
        }
    }
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// First frame of either side, with a payload of this many bytes.
    Hello(usize),
    /// The producer names a channel; the payload is a [`ChannelKey`].
    OpenChannel {
        /// The number it will use.
        channel: u32,
    },
    /// Elements. `free` frames hold control elements only and cost no credit.
    Elements {
        /// Channel number.
        channel: u32,
        /// Counts the channel's frames from 0.
        sequence: u64,
        /// Bytes of elements.
        payload_bytes: usize,
        /// Costs no credit.
        free: bool,
        /// Buffers waiting behind this one at the producer. For who reads a trace: no consumer uses it yet.
        backlog: u32,
    },
    /// The consumer grants this many more frames.
    Credit {
        /// Channel number.
        channel: u32,
        /// Frames granted.
        count: u32,
    },
    /// The consumer reads no more.
    CloseChannel {
        /// Channel number.
        channel: u32,
    },
}

impl Frame {
    /// Reads a header.
    ///
    /// # Errors
    /// [`FrameError`]: close the connection.
    pub fn decode(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let header = FrameHeader(bytes);
        if header.magic() != MAGIC {
            return Err(FrameError::Magic(header.magic()));
        }
        if header.version() != PROTOCOL_VERSION {
            return Err(FrameError::Version(header.version()));
        }
        let (kind, announced) = (header.kind(), header.payload_bytes());
        let refuse = Err(FrameError::Payload {
            kind,
            bytes: announced,
        });
        let bytes = usize::try_from(announced).unwrap_or(usize::MAX);
        let channel = header.channel();
        match FrameKind(kind) {
            FrameKind::Hello if (1..=HELLO_BYTES_MAX).contains(&bytes) => Ok(Self::Hello(bytes)),
            FrameKind::OpenChannel if bytes == CHANNEL_KEY_BYTES => {
                Ok(Self::OpenChannel { channel })
            }
            FrameKind::Data | FrameKind::Control
                if (1..=FRAME_PAYLOAD_BYTES_MAX).contains(&bytes)
                    && bytes.is_multiple_of(ELEMENT_ALIGN) =>
            {
                Ok(Self::Elements {
                    channel,
                    sequence: header.sequence(),
                    payload_bytes: bytes,
                    free: FrameKind(kind) == FrameKind::Control,
                    backlog: header.backlog(),
                })
            }
            FrameKind::Credit if bytes == 0 => Ok(Self::Credit {
                channel,
                count: header.credit(),
            }),
            FrameKind::CloseChannel if bytes == 0 => Ok(Self::CloseChannel { channel }),
            FrameKind::Hello
            | FrameKind::OpenChannel
            | FrameKind::Data
            | FrameKind::Control
            | FrameKind::Credit
            | FrameKind::CloseChannel => refuse,
            FrameKind(other) => Err(FrameError::Kind(other)),
        }
    }

    /// Bytes that follow the header.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match *self {
            Self::Hello(bytes)
            | Self::Elements {
                payload_bytes: bytes,
                ..
            } => bytes,
            Self::OpenChannel { .. } => CHANNEL_KEY_BYTES,
            Self::Credit { .. } | Self::CloseChannel { .. } => 0,
        }
    }

    /// The header.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let payload =
            u32::try_from(self.payload_bytes()).expect("at most FRAME_PAYLOAD_BYTES_MAX < 2^32");
        let head = |kind: FrameKind, channel, sequence, credit, backlog| {
            FrameHeader::new(
                MAGIC,
                PROTOCOL_VERSION,
                kind.0,
                0,
                payload,
                channel,
                sequence,
                credit,
                backlog,
            )
            .0
        };
        match *self {
            Self::Hello(_) => head(FrameKind::Hello, 0, 0, 0, 0),
            Self::OpenChannel { channel } => head(FrameKind::OpenChannel, channel, 0, 0, 0),
            Self::Elements {
                channel,
                sequence,
                free,
                backlog,
                ..
            } => {
                let kind = if free {
                    FrameKind::Control
                } else {
                    FrameKind::Data
                };
                head(kind, channel, sequence, 0, backlog)
            }
            Self::Credit { channel, count } => head(FrameKind::Credit, channel, 0, count, 0),
            Self::CloseChannel { channel } => head(FrameKind::CloseChannel, channel, 0, 0, 0),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Cluster both belong to.
    pub cluster_id: String,
    /// The sender's id and core.
    pub from: (String, u32),
    /// Whom it means to have reached.
    pub to: (String, u32),
}

impl Hello {
    /// Header and payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let cluster_id = builder.create_string(&self.cluster_id);
        let from = builder.create_string(&self.from.0);
        let to = builder.create_string(&self.to.0);
        let hello = WireHello::create(
            &mut builder,
            &HelloArgs {
                cluster_id: Some(cluster_id),
                task_manager_id: Some(from),
                core: self.from.1,
                peer_task_manager_id: Some(to),
                peer_core: self.to.1,
            },
        );
        builder.finish(hello, None);
        let payload = builder.finished_data();
        let mut bytes = Frame::Hello(payload.len()).encode().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Reads the payload of a Hello frame.
    ///
    /// # Errors
    /// [`FrameError::Hello`]: close the connection.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let hello = flatbuffers::root::<WireHello<'_>>(payload)
            .map_err(|error| FrameError::Hello(error.to_string()))?;
        let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
        Ok(Self {
            cluster_id: text(hello.cluster_id()),
            from: (text(hello.task_manager_id()), hello.core()),
            to: (text(hello.peer_task_manager_id()), hello.peer_core()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_the_wire() {
        for frame in [
            Frame::Hello(17),
            Frame::OpenChannel { channel: 3 },
            Frame::Elements {
                channel: 3,
                sequence: 9,
                payload_bytes: 64,
                free: false,
                backlog: 2,
            },
            Frame::Elements {
                channel: 3,
                sequence: 10,
                payload_bytes: 24,
                free: true,
                backlog: 0,
            },
            Frame::Credit {
                channel: 3,
                count: 16,
            },
            Frame::CloseChannel { channel: 3 },
        ] {
            assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn a_hello_survives_the_wire() {
        let hello = Hello {
            cluster_id: "c".into(),
            from: ("tm-1".into(), 0),
            to: ("tm-2".into(), 1),
        };
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes[FRAME_HEADER_BYTES..]), Ok(hello));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(noise in any::<[u8; 32]>(), keep in 0usize..12, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = Frame::Credit { channel: 1, count: 1 }.encode();
            bytes[keep..].copy_from_slice(&noise[keep..]);
            if let Ok(frame) = Frame::decode(bytes) {
                prop_assert!(frame.payload_bytes() <= FRAME_PAYLOAD_BYTES_MAX);
            }
            drop(Hello::decode(&payload));
        }
    }
}
