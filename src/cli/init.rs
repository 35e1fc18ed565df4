//! `store init`: make a store with settings of its own.

use super::{Context, Exit, size};
use crate::chunk::Profile;
use crate::engine::{Settings, Store};
use crate::error::{Error, Result};
use crate::pack::frame::{Codec, FrameSettings};
use crate::spelling::quoted;

/// Make a store.
///
/// The settings are the store's for good: they decide where chunks end and how they are compressed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  store init\n  store --store /srv/models init --frame 64K --level 9")]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The settings of a new store.
#[derive(Debug, clap::Args)]
pub(super) struct SettingsArgs {
    /// How files are cut: default, xet, or fastcdc-AVERAGE-LEVEL (bit-identical to the fastcdc crate's v2020).
    #[arg(long, value_name = "NAME", conflicts_with = "chunk_avg")]
    profile: Option<Profile>,
    /// The average chunk size of the default profile: a power of two, 4K to 1M.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    chunk_avg: Option<usize>,
    /// How much data is compressed together: 16K to 4M [default: 1M]; less makes reading at random faster.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    frame: Option<usize>,
    /// zstd, lz4 or none [default: zstd].
    #[arg(long)]
    codec: Option<Codec>,
    /// The level of zstd: -7 (fastest) to 19 (smallest) [default: 2].
    #[arg(long, allow_negative_numbers = true)]
    level: Option<i32>,
}

impl SettingsArgs {
    /// The settings asked for, the rest by default.
    pub(super) fn settings(&self) -> Result<Settings> {
        let profile = match (self.profile, self.chunk_avg) {
            (Some(profile), _) => profile,
            (None, Some(average)) => u32::try_from(average)
                .ok()
                .and_then(|average| Profile::gear_with_average(average).ok())
                .ok_or_else(|| Error::Usage("--chunk-avg takes a power of two from 4K to 1M".to_owned()))?,
            (None, None) => Profile::default(),
        };
        let plain = FrameSettings::default();
        let frames = FrameSettings::new(
            self.codec.unwrap_or(plain.codec()),
            self.level.unwrap_or(plain.level()),
            self.frame.unwrap_or(plain.frame_bytes()),
        )?;
        Ok(Settings { profile, frames })
    }

    /// Refuses settings that were asked for and are not those of a store that exists.
    pub(super) fn check(&self, store: &Store) -> Result<()> {
        let (asked, has) = (self.settings()?, store.settings());
        let profile_differs = (self.profile.is_some() || self.chunk_avg.is_some()) && asked.profile != has.profile;
        let frames_differ = (self.frame.is_some() && asked.frames.frame_bytes() != has.frames.frame_bytes())
            || (self.codec.is_some() && asked.frames.codec() != has.frames.codec())
            || (self.level.is_some() && asked.frames.level() != has.frames.level());
        if profile_differs || frames_differ {
            return Err(Error::Usage(format!(
                "the store was made with profile {}, frames of {} bytes, {} level {}; these settings are fixed",
                has.profile,
                has.frames.frame_bytes(),
                has.frames.codec(),
                has.frames.level()
            )));
        }
        Ok(())
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let store = Store::init(&context.store, args.settings.settings()?)?;
    context.report.note(&made(&store));
    Ok(Exit::Fine)
}

/// That a store was made, and with what, in a line.
pub(super) fn made(store: &Store) -> String {
    let settings = store.settings();
    format!(
        "made store {} in {}: profile {}, frames of {} bytes, {} level {}",
        store.id(),
        quoted(&store.location()),
        settings.profile,
        settings.frames.frame_bytes(),
        settings.frames.codec(),
        settings.frames.level()
    )
}
