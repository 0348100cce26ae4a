//! Poses of about a second as bytes.

use protocol::{Part, Pose, Rotation};

use crate::codec::wire::{Reader, put_varint};
use crate::codec::{Damaged, TooLarge};
use crate::limits::{CHUNK_INSTANTS_MAX, CHUNK_SAMPLES_MAX};
use crate::{MemberId, PoseSample, PoseSamples};

pub(crate) fn put(poses: &PoseSamples, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    if poses.samples.len() > CHUNK_SAMPLES_MAX || poses.instants_ms.len() > CHUNK_INSTANTS_MAX {
        return Err(TooLarge);
    }
    put_varint(poses.instants_ms.len() as u64, out);
    for instant in &poses.instants_ms {
        put_varint(*instant, out);
    }
    put_varint(poses.samples.len() as u64, out);
    for sample in &poses.samples {
        put_varint(u64::from(sample.instant), out);
        put_varint(sample.member.0, out);
        let Pose { head, left_hand, right_hand } = sample.pose;
        for part in [Some(head), left_hand, right_hand] {
            let Some(part) = part else {
                out.push(0);
                continue;
            };
            let (form, rotation) = match part.rotation {
                Rotation::Euler([x, y, z]) => (1, [x, y, z, 0.0]),
                Rotation::Quaternion(q) => (2, q),
            };
            out.push(form);
            for number in part.position.iter().chain(&rotation) {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    Ok(())
}

pub(crate) fn read(body: &[u8]) -> Result<PoseSamples, Damaged> {
    let mut reader = Reader::new(body);
    let mut poses = PoseSamples::default();
    for _ in 0..reader.count(CHUNK_INSTANTS_MAX)? {
        poses.instants_ms.push(reader.varint()?);
    }
    for _ in 0..reader.count(CHUNK_SAMPLES_MAX)? {
        let instant = reader.count(poses.instants_ms.len().saturating_sub(1))? as u16;
        let member = MemberId(reader.varint()?);
        let head = read_part(&mut reader)?.ok_or(Damaged)?;
        let pose = Pose { head, left_hand: read_part(&mut reader)?, right_hand: read_part(&mut reader)? };
        poses.samples.push(PoseSample { instant, member, pose });
    }
    reader.end()?;
    Ok(poses)
}

fn read_part(reader: &mut Reader<'_>) -> Result<Option<Part>, Damaged> {
    let form = reader.byte()?;
    if form == 0 {
        return Ok(None);
    }
    let mut numbers = [0.0; 7];
    for number in &mut numbers {
        let bytes = reader.take(4)?.try_into().map_err(|_| Damaged)?;
        *number = f32::from_le_bytes(bytes);
    }
    let [px, py, pz, x, y, z, w] = numbers;
    let rotation = if form == 1 { Rotation::Euler([x, y, z]) } else { Rotation::Quaternion([x, y, z, w]) };
    Ok(Some(Part { position: [px, py, pz], rotation }))
}
