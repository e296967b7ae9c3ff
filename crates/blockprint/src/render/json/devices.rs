//! `blockprint devices` for programs: described in docs/devices.md.

use engine::devices::Device;
use serde_json::{Value, json};

use super::path;

pub(crate) fn devices(devices: &[Device]) -> Value {
    json!({
        "event": "result",
        "command": "devices",
        "devices": devices.iter().map(device).collect::<Vec<_>>(),
    })
}

fn device(device: &Device) -> Value {
    let partition =
        device.partition.map(|(number, offset)| json!({ "number": number, "offset": offset }));
    let found = &device.filesystem;
    json!({
        "name": device.name,
        "path": path(&device.path),
        "type": device.kind.name(),
        "size_bytes": device.size_bytes,
        "sector_size_bytes": device.sector_bytes,
        "model": device.model,
        "serial": device.serial,
        "read_only": device.is_read_only,
        "removable": device.is_removable,
        "partition": partition,
        "backing_file": device.backing_file.as_deref().map(path),
        "filesystem": found.kind,
        "label": found.label,
        "uuid": found.uuid,
        "filesystem_size_bytes": found.size_bytes,
        "table": found.table,
        "problem": device.problem,
        "mount_points": device.mount_points.iter().map(|place| path(place)).collect::<Vec<_>>(),
        "last_mount_point": device.last_mount_point.as_deref().map(path),
        "held_by": device.held_by,
        "in_use": device.is_in_use(),
        "children": device.children.iter().map(self::device).collect::<Vec<_>>(),
    })
}
