//! Index files of casync and desync: read, and made again from their inputs, byte for byte.

use chunks::Algorithm;
use chunks::chunker::{Cutting, Rule};
use chunks::index::{Flags, Header, Index, IndexWriter};
use chunks::ingest::{NameOnly, Run, ingest};
use image::{Image, Medium, MemoryMedium, Result, Task};
use serde_json::Value;

use crate::vectors;

/// Bytes in memory, as an image.
struct Blob(MemoryMedium);

impl Image for Blob {
    fn size(&self) -> u64 {
        self.0.len().unwrap()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<image::Extent> {
        self.0.extent_at(offset)
    }
}

fn cases() -> Vec<Value> {
    vectors::json("index/vectors.json").as_array().unwrap().clone()
}

fn open(bytes: &[u8], name: &str) -> Index {
    Index::read(bytes, name, 1 << 30, Flags::Known).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn every_index_is_read_and_written_again_as_it_was() {
    for case in cases() {
        let name = case["index"].as_str().unwrap();
        let bytes = std::fs::read(vectors::path(&format!("index/{name}"))).unwrap();
        let index = open(&bytes, name);
        assert_eq!(index.count(), case["chunks"].as_u64().unwrap(), "{name}");
        assert_eq!(index.size_bytes(), case["input_len"].as_u64().unwrap(), "{name}");
        assert_eq!(index.algorithm().name(), case["digest"].as_str().unwrap(), "{name}");
        let flags = format!("{:#x}", index.header().flags);
        assert_eq!(flags, case["flags"].as_str().unwrap(), "{name}");
        let mut writer = IndexWriter::new(Vec::new(), index.header()).unwrap();
        for span in index.chunks(0..index.count()) {
            let span = span.unwrap();
            writer.push(&span.id, span.len_bytes).unwrap();
        }
        assert!(writer.finish().unwrap() == bytes, "{name}: written again, it differs");
    }
}

#[test]
fn every_input_gives_the_index_that_casync_or_desync_made_of_it() {
    for case in cases() {
        let name = case["index"].as_str().unwrap();
        let expected = std::fs::read(vectors::path(&format!("index/{name}"))).unwrap();
        let input = vectors::input(&case["input"]);
        let theirs = open(&expected, name);
        let rule = match case["tool"].as_str().unwrap() {
            "desync" => Rule::DesyncClassic,
            _ => Rule::Casync,
        };
        let cutting = Cutting::new(theirs.sizes(), rule).unwrap();
        // The flags of a blob are casync's; those of desync and of unusual options are taken over.
        let header = Header { flags: theirs.header().flags, sizes: theirs.sizes() };
        let medium = MemoryMedium::new(name, input.len() as u64);
        medium.write_at(&input, 0).unwrap();
        let blob = Blob(medium);
        for threads in [1, 3] {
            let mut writer = IndexWriter::new(Vec::new(), &header).unwrap();
            let write = |run: Run| {
                writer.push_run(&run.id, run.len_bytes, run.count).unwrap();
                Ok(())
            };
            let task = Task::silent();
            ingest(&blob, &cutting, theirs.algorithm(), threads, &task, &NameOnly, write).unwrap();
            assert!(
                writer.finish().unwrap() == expected,
                "{name}: another index with {threads} threads"
            );
        }
        let digest = theirs.algorithm().digest(&input);
        let digest = chunks::ChunkId(digest).hex();
        assert_eq!(digest, case["blob_digest"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn ours_has_the_flags_of_casync() {
    for (algorithm, flags) in
        [(Algorithm::Sha512_256, 0xB000_0000_0000_0000), (Algorithm::Sha256, 0x9000_0000_0000_0000)]
    {
        assert_eq!(Header::new(algorithm, Default::default()).flags, flags);
    }
}
