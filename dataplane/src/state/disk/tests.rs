//! Where tests of state run: every place that it may be in.

use std::ops::{Deref, DerefMut};

use proptest::prelude::*;
use ringflow_schemas::key_group::{hash_code_u64, spread};

use super::*;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::{
    KeyedAccess, ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor,
};

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    Memory,
    /// With room for everything in its tables.
    Disk,
    /// With so little memory that rows are written and read back all the time.
    SmallDisk,
}

impl In {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::SmallDisk];

    /// Mostly in memory: files cost time.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![10 => Just(Self::Memory), 1 => Just(Self::Disk), 1 => Just(Self::SmallDisk)]
    }

    /// Storage of this kind, and what ends it.
    pub(crate) fn storage(self) -> (StateStorage, Option<StateThreads>) {
        let memory_bytes = match self {
            Self::Memory => return (StateStorage::HashMap, None),
            Self::Disk => 64 << 20,
            Self::SmallDisk => 32 << 10,
        };
        // In memory where there is such a directory: each batch is synchronised, which would be most of a test's time.
        let shared_memory = std::path::PathBuf::from("/dev/shm");
        let base = Some(shared_memory)
            .filter(|base| base.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let options = DiskOptions {
            directory: None,
            memory_bytes,
        };
        let (storage, threads) =
            DiskStorage::of_any_size(&base, &options).expect("temporary files can be written");
        (StateStorage::Disk(storage), Some(threads))
    }

    pub(crate) fn open(self, subtask_index: u32, parallelism: u32, max_parallelism: u32) -> Opened {
        let (storage, threads) = self.storage();
        let backend =
            KeyedStateBackend::open(&storage, subtask_index, parallelism, max_parallelism);
        Opened {
            backend: backend.expect("enough memory"),
            _threads: threads,
        }
    }
}

/// A backend, and what it needs as long as it lives.
pub(crate) struct Opened {
    backend: KeyedStateBackend,
    _threads: Option<StateThreads>,
}

impl Deref for Opened {
    type Target = KeyedStateBackend;
    fn deref(&self) -> &KeyedStateBackend {
        &self.backend
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut KeyedStateBackend {
        &mut self.backend
    }
}

fn at(key: &u64) -> At<'_> {
    At {
        key_hash: spread(hash_code_u64(*key)),
        key: bytemuck::bytes_of(key),
        namespace: &[],
    }
}

/// Many times more rows than memory holds, in rounds, so that each is read from the tree, changed and written again.
#[test]
fn state_larger_than_memory_is_all_there() {
    const KEYS: u64 = 20_000;
    let (storage, threads) = In::SmallDisk.storage();
    let StateStorage::Disk(disk) = &storage else {
        panic!("on disk");
    };
    let directory = disk.directory().to_owned();
    let mut backend = KeyedStateBackend::open(&storage, 0, 1, 16).expect("enough memory");
    let sum = ValueStateDescriptor::<u64>::new("sum")
        .register(&mut backend)
        .expect("fresh");
    let list = ListStateDescriptor::<u64>::new("list")
        .register(&mut backend)
        .expect("fresh");
    let map = MapStateDescriptor::<u64, u64>::new("map")
        .register(&mut backend)
        .expect("fresh");
    for round in 1..=3 {
        for step in 0..KEYS {
            let key = step * 7_919 % KEYS;
            let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
            sum.modify(&mut access, |old| Some(old.unwrap_or(0) + key * round))
                .expect("owned");
            if key.is_multiple_of(50) {
                list.add(&mut access, &round).expect("owned");
                map.put(&mut access, &(round % 2), &key).expect("owned");
            }
        }
        assert!(
            backend.bytes() < 128 << 10,
            "{} bytes of memory for {KEYS} keys",
            backend.bytes()
        );
    }
    assert!(
        std::fs::read_dir(directory.join("0"))
            .expect("files")
            .count()
            > 0
    );
    for key in 0..KEYS {
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        assert_eq!(sum.value(&mut access).expect("owned"), Some(key * 6));
        if key.is_multiple_of(50) {
            assert_eq!(list.get(&mut access).expect("owned"), [1, 2, 3]);
            assert_eq!(map.keys(&mut access).expect("owned"), [1, 0]);
        }
    }
    let entries = usize::try_from(KEYS + KEYS / 50 * 5).expect("few");
    assert_eq!(backend.entries().expect("readable"), entries);
    drop(backend);
    drop((storage, threads));
    assert!(!directory.exists(), "removed with its TaskManager");
}

/// What cannot be written ends its operator, which says where it was to be written; nothing blocks.
#[test]
fn a_disk_that_takes_no_more_fails_the_operator_by_its_directory() {
    let (storage, _threads) = In::SmallDisk.storage();
    let StateStorage::Disk(disk) = &storage else {
        panic!("on disk");
    };
    let mut backend = KeyedStateBackend::open(&storage, 0, 1, 16).expect("enough memory");
    let value = ValueStateDescriptor::<u64>::new("value")
        .register(&mut backend)
        .expect("fresh");
    // No directory can be made where a file is.
    std::fs::write(disk.directory().join("0"), "in the way").expect("writable");
    let failed = (0..1_000_000).find_map(|key| {
        let mut access = KeyedAccess::new(&mut backend, at(&key), 0);
        value.update(&mut access, &key).err()
    });
    let text = failed.expect("more than memory holds").to_string();
    let directory = disk.directory().display().to_string();
    assert!(
        text.contains(&directory) && text.contains("--state-dir"),
        "{text}"
    );
}

#[test]
fn more_operators_than_memory_has_shares_for_are_refused() {
    let (disk, _threads) = DiskStorage::start(
        &DiskOptions {
            directory: None,
            memory_bytes: 4 << 20,
        },
        1,
    )
    .expect("temporary files can be written");
    let storage = StateStorage::Disk(disk);
    let open = || KeyedStateBackend::open(&storage, 0, 1, 128);
    let two = [open().expect("2 MiB"), open().expect("1 MiB")];
    let text = open().expect_err("2/3 MiB").to_string();
    assert!(
        text.contains("3 subtasks") && text.contains("--memory"),
        "{text}"
    );
    drop(two);
    open().expect("there is room again");
}
