//! The peak memory of a running service.

use super::processor::Processor;

/// What the service may need besides a document, in kilobytes: 64 MB (spec 07, "Performance") without the 20 MB that
/// the program's own file takes of them in a release build.
const MEMORY: usize = (64 - 20) * 1024;

/// The peak of its memory, against the weight of the document in bytes. The pages of the program's file do not count:
/// a debug build's file has more of them than the product's.
pub(crate) fn assert_bounded(processor: &Processor, document: usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", processor.pid())).unwrap();
    let kilobytes = |name: &str| -> usize {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        value.unwrap().trim().parse().unwrap()
    };
    let (peak, file) = (kilobytes("VmHWM:"), kilobytes("RssFile:"));
    eprintln!(
        "peak memory {} MB and {} MB of file, the document {} MB",
        (peak - file) / 1024,
        file / 1024,
        document / 1_000_000
    );
    assert!(
        peak - file <= MEMORY + document / 1024,
        "{peak} kB ({file} kB of file) for a document of {document} bytes"
    );
}
