//! A report for people.

use std::fmt;

use super::{Cost, Poses, Report, ratio};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, rooms, hz, protocol, encoding, window_s, .. } = self;
        writeln!(
            f,
            "{users} users in {rooms} rooms at {hz} Hz, {protocol} over {}, {encoding}, {window_s:.1} s at {}",
            self.transport, self.url
        )?;
        writeln!(f, "  connect       {}", self.connect_ms)?;
        writeln!(f, "  join          {}", self.join_ms)?;
        if let Some(poses) = &self.poses {
            poses.write_ages(f)?;
        }
        if let Some(acks) = &self.acks {
            writeln!(
                f,
                "  ack           {} ({} of {} answered)",
                acks.ack_ms, acks.acks_answered, acks.acks_asked
            )?;
        }
        writeln!(f, "  sending late  {}", self.send_lateness_ms)?;
        writeln!(f, "  sent          {} poses ({} not taken)", self.poses_sent, self.poses_not_sent)?;
        match &self.poses {
            Some(poses) => poses.write_counts(f, self.users)?,
            None => writeln!(f, "  poses         not judged: only messages and bytes are counted")?,
        }
        self.write_traffic(f)?;
        if let Some(cost) = &self.server {
            cost.fmt(f)?;
        }
        writeln!(
            f,
            "  load          {:.3} cores of {}, {:.1} CPU µs per user-tick",
            self.load_cores,
            self.load_cores_given,
            ratio(self.load_cores * self.window_s * 1e6, self.poses_sent as f64)
        )?;
        self.doubts().iter().try_for_each(|doubt| writeln!(f, "  doubtful: {doubt}"))?;
        self.faults().iter().try_for_each(|fault| writeln!(f, "  FAULT: {fault}"))
    }
}

impl Report {
    fn write_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [mean, most] = [self.bytes_per_user_s, self.bytes_per_user_s_most].map(|bytes| bytes / 1024.0);
        let (frames, most_frames) = (self.frames_per_user_s, self.frames_per_user_s_most);
        write!(f, "  traffic       {frames:.1} frames/s per user (most {most_frames:.1}), ")?;
        writeln!(f, "{mean:.1} KiB/s (most {most:.1})")?;
        if let Some((mean, fewest)) = self.ticks_per_user_s.zip(self.ticks_per_user_s_fewest) {
            writeln!(f, "  ticks         {mean:.1} per second at each user (fewest {fewest:.1})")?;
        }
        if let Some(hz) = self.lowest_rate_hz {
            writeln!(f, "  room rate     told {} times, lowest {hz} Hz", self.room_rates)?;
        }
        Ok(())
    }
}

impl Poses {
    fn write_ages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  pose age      {}", self.pose_age_ms)?;
        let near = format!("near ({} m)", self.near_m);
        writeln!(f, "    {near:<12}{}", self.pose_age_near_ms)?;
        writeln!(f, "    far         {}", self.pose_age_far_ms)?;
        writeln!(f, "  update gap    {}", self.update_gap_ms)?;
        writeln!(f, "    near        {}", self.update_gap_near_ms)
    }

    fn write_counts(&self, f: &mut fmt::Formatter<'_>, users: u32) -> fmt::Result {
        let share = 100.0 * ratio(self.poses_received as f64, self.poses_expected as f64);
        if self.judged < u64::from(users) {
            writeln!(f, "  judged        {} of {users} receivers", self.judged)?;
        }
        writeln!(
            f,
            "  received      {} of {} poses ({share:.2} %), {} of them near, {} again, longest gap {}",
            self.poses_received, self.poses_expected, self.poses_near, self.poses_repeated, self.longest_gap
        )?;
        writeln!(f, "  delivered     {:.0} poses/s to all", self.poses_delivered_per_s)?;
        let [mean, fewest, most] = self.received_per_user_tick;
        writeln!(f, "  per user      {mean:.2} poses per tick (fewest {fewest:.2}, most {most:.2})")
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_s, cores, rss_mib, rss_kib_per_client, cpu_us_per_user_tick, .. } = self;
        write!(f, "  server        {cpu_s:.2} CPU s ({cores:.3} cores)")?;
        match self.waiting_share {
            Some(share) => writeln!(f, ", waited for its core {:.1} % of the time", 100.0 * share)?,
            None => writeln!(f, ", as its /metrics say")?,
        }
        writeln!(f, "                {rss_mib:.1} MiB resident, {rss_kib_per_client:.1} KiB per client")?;
        write!(f, "                {cpu_us_per_user_tick:.1} CPU µs per user-tick")?;
        if let Some(delivered) = self.cpu_us_per_delivered_tick {
            write!(f, ", {delivered:.1} per delivered one")?;
        }
        if let Some(poses) = self.poses_per_cpu_s {
            write!(f, "; {poses:.0} poses per CPU s")?;
        }
        writeln!(f)
    }
}
