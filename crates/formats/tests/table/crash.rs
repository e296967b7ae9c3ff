//! Power cuts while a table is written: a disk that had none has none or all of it.

use formats::table::Table;
use image::{Folder, Medium};
use testkit::crash::CrashDisk;

use crate::support::{GPT, MBR, MIB, disk, in_memory, read};

#[test]
fn after_each_power_cut_a_blank_disk_has_no_table_or_a_whole_one() {
    for script in [GPT, MBR] {
        let Some((_scratch, medium)) = disk(script, 70 * MIB) else { return };
        let table = read(&in_memory(&medium));
        let crash = CrashDisk::new();
        let folder = crash.folder();
        let target = folder.create("disk".as_ref()).unwrap();
        target.set_len(70 * MIB).unwrap();
        target.sync().unwrap();
        folder.sync().unwrap();
        table.write(&target).unwrap();
        let promised = crash.operations();
        let (mut none, mut whole) = (0, 0);
        crash.each_cut(|cut, disk| {
            let Some(medium) = disk.medium("disk") else { return };
            match medium.len().map(|len| len == 70 * MIB) {
                Ok(true) => {}
                _ => return,
            }
            match Table::read(&medium, 512).unwrap() {
                None => {
                    assert!(cut.after() < promised, "it was promised");
                    none += 1;
                }
                Some(found) => {
                    assert!(found.pieces() == table.pieces(), "it is another");
                    whole += 1;
                }
            }
        });
        assert!(none > 3 && whole > 0, "{none} cuts left none, {whole} all of it");
    }
}
