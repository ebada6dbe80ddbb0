//! OpenFlow errors: one row each (reference: messages.md, "Errors"), with the code in each version.

use crate::types::Version;

/// Where and how a version codes an error: (vendor, type, code); vendor 0 is standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub from: Version,
    pub to: Version,
    /// 0, 0x2320 (Nicira) or 0x4f4e4600 (ONF)
    pub vendor: u32,
    pub kind: u16,
    pub code: u16,
}

macro_rules! errors {
    ($( $id:ident = $name:literal: $( $from:ident..$to:ident $vendor:literal, $kind:literal, $code:literal );+ ; )*) => {
        /// An OpenFlow error, independent of the version that carries it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum OfError { $( #[doc = $name] $id ),* }
        impl OfError {
            /// All, in the order of the table.
            pub const ALL: &[Self] = &[ $( Self::$id ),* ];
            const NAMES: &[&str] = &[ $( $name ),* ];
            const CODES: &[&[Code]] = &[ $( &[ $( Code {
                from: Version::$from, to: Version::$to, vendor: $vendor, kind: $kind, code: $code
            } ),+ ] ),* ];
        }
    };
}

impl OfError {
    /// The name, as OVS prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The code in `version`, if it has one.
    #[must_use]
    pub fn code(self, version: Version) -> Option<Code> {
        Self::CODES[self as usize].iter().copied().find(|c| c.from <= version && version <= c.to)
    }

    /// The error that `version` codes so.
    #[must_use]
    pub fn from_code(version: Version, vendor: u32, kind: u16, code: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|e| e.code(version).is_some_and(|c| (c.vendor, c.kind, c.code) == (vendor, kind, code)))
    }
}

errors! {
    OfphfcIncompatible = "OFPHFC_INCOMPATIBLE": V10..V15 0, 0, 0;
    OfphfcEperm = "OFPHFC_EPERM": V10..V15 0, 0, 1;
    OfpbrcBadVersion = "OFPBRC_BAD_VERSION": V10..V15 0, 1, 0;
    OfpbrcBadType = "OFPBRC_BAD_TYPE": V10..V15 0, 1, 1;
    OfpbrcBadStat = "OFPBRC_BAD_STAT": V10..V15 0, 1, 2;
    OfpbrcBadVendor = "OFPBRC_BAD_VENDOR": V10..V15 0, 1, 3;
    OfpbrcBadSubtype = "OFPBRC_BAD_SUBTYPE": V10..V15 0, 1, 4;
    OfpbrcEperm = "OFPBRC_EPERM": V10..V15 0, 1, 5;
    OfpbrcBadLen = "OFPBRC_BAD_LEN": V10..V15 0, 1, 6;
    OfpbrcBufferEmpty = "OFPBRC_BUFFER_EMPTY": V10..V15 0, 1, 7;
    OfpbrcBufferUnknown = "OFPBRC_BUFFER_UNKNOWN": V10..V15 0, 1, 8;
    OfpbrcBadTableId = "OFPBRC_BAD_TABLE_ID": V10..V10 0x2320, 1, 512; V11..V15 0, 1, 9;
    OfpbrcIsSecondary = "OFPBRC_IS_SECONDARY": V10..V11 0, 1, 5; V12..V15 0, 1, 10;
    OfpbrcBadPort = "OFPBRC_BAD_PORT": V10..V11 0x2320, 1, 514; V12..V15 0, 1, 11;
    OfpbrcBadPacket = "OFPBRC_BAD_PACKET": V12..V15 0, 1, 12;
    OfpbrcMultipartBufferOverflow = "OFPBRC_MULTIPART_BUFFER_OVERFLOW": V13..V15 0, 1, 13;
    OfpbrcMultipartRequestTimeout = "OFPBRC_MULTIPART_REQUEST_TIMEOUT": V13..V13 0x4f4e_4600, 2640, 0; V14..V15 0, 1, 14;
    OfpbrcMultipartReplyTimeout = "OFPBRC_MULTIPART_REPLY_TIMEOUT": V13..V13 0x4f4e_4600, 2641, 0; V14..V15 0, 1, 15;
    OfpbrcMultipartBadSched = "OFPBRC_MULTIPART_BAD_SCHED": V15..V15 0, 1, 16;
    OfpbrcPipelineFieldsOnly = "OFPBRC_PIPELINE_FIELDS_ONLY": V15..V15 0, 1, 17;
    OfpbrcUnknown = "OFPBRC_UNKNOWN": V15..V15 0, 1, 18;
    NxbrcNxmInvalid = "NXBRC_NXM_INVALID": V10..V11 0x2320, 1, 256; V12..V15 0x2320, 2, 0;
    NxbrcNxmBadType = "NXBRC_NXM_BAD_TYPE": V10..V11 0x2320, 1, 257; V12..V15 0x2320, 3, 0;
    NxbrcMustBeZero = "NXBRC_MUST_BE_ZERO": V10..V11 0x2320, 1, 515; V12..V15 0x2320, 4, 0;
    NxbrcBadReason = "NXBRC_BAD_REASON": V10..V11 0x2320, 1, 516; V12..V15 0x2320, 5, 0;
    NxbrcFmBadEvent = "NXBRC_FM_BAD_EVENT": V10..V11 0x2320, 1, 520; V12..V15 0x2320, 9, 0;
    NxbrcUnencodableError = "NXBRC_UNENCODABLE_ERROR": V10..V11 0x2320, 1, 521; V12..V15 0x2320, 10, 0;
    OfpbacBadType = "OFPBAC_BAD_TYPE": V10..V15 0, 2, 0;
    OfpbacBadLen = "OFPBAC_BAD_LEN": V10..V15 0, 2, 1;
    OfpbacBadVendor = "OFPBAC_BAD_VENDOR": V10..V15 0, 2, 2;
    OfpbacBadVendorType = "OFPBAC_BAD_VENDOR_TYPE": V10..V15 0, 2, 3;
    OfpbacBadOutPort = "OFPBAC_BAD_OUT_PORT": V10..V15 0, 2, 4;
    OfpbacBadArgument = "OFPBAC_BAD_ARGUMENT": V10..V15 0, 2, 5;
    OfpbacEperm = "OFPBAC_EPERM": V10..V15 0, 2, 6;
    OfpbacTooMany = "OFPBAC_TOO_MANY": V10..V15 0, 2, 7;
    OfpbacBadQueue = "OFPBAC_BAD_QUEUE": V10..V15 0, 2, 8;
    OfpbacBadOutGroup = "OFPBAC_BAD_OUT_GROUP": V10..V10 0x2320, 2, 9; V11..V15 0, 2, 9;
    OfpbacMatchInconsistent = "OFPBAC_MATCH_INCONSISTENT": V10..V10 0x2320, 1, 522; V11..V15 0, 2, 10;
    OfpbacUnsupportedOrder = "OFPBAC_UNSUPPORTED_ORDER": V11..V15 0, 2, 11;
    OfpbacBadTag = "OFPBAC_BAD_TAG": V11..V15 0, 2, 12;
    OfpbacBadSetType = "OFPBAC_BAD_SET_TYPE": V10..V11 0x2320, 1, 523; V12..V15 0, 2, 13;
    OfpbacBadSetLen = "OFPBAC_BAD_SET_LEN": V10..V11 0x2320, 1, 524; V12..V15 0, 2, 14;
    OfpbacBadSetArgument = "OFPBAC_BAD_SET_ARGUMENT": V10..V11 0x2320, 1, 525; V12..V15 0, 2, 15;
    OfpbacBadSetMask = "OFPBAC_BAD_SET_MASK": V13..V14 0x4f4e_4600, 4250, 0; V15..V15 0, 2, 16;
    OfpbacBadMeter = "OFPBAC_BAD_METER": V15..V15 0, 2, 17;
    NxbacMustBeZero = "NXBAC_MUST_BE_ZERO": V10..V11 0x2320, 2, 256; V12..V15 0x2320, 11, 0;
    NxbacBadConjunction = "NXBAC_BAD_CONJUNCTION": V10..V11 0x2320, 2, 526; V12..V15 0x2320, 15, 0;
    NxbacBadHeaderType = "NXBAC_BAD_HEADER_TYPE": V13..V15 0x2320, 39, 0;
    NxbacUnknownEdProp = "NXBAC_UNKNOWN_ED_PROP": V13..V15 0x2320, 40, 0;
    NxbacBadEdProp = "NXBAC_BAD_ED_PROP": V13..V15 0x2320, 41, 0;
    NxbacCtDatapathSupport = "NXBAC_CT_DATAPATH_SUPPORT": V10..V11 0x2320, 1, 265; V12..V15 0x2320, 42, 0;
    OfpbicUnknownInst = "OFPBIC_UNKNOWN_INST": V11..V15 0, 3, 0;
    OfpbicUnsupInst = "OFPBIC_UNSUP_INST": V10..V10 0x2320, 2, 257; V11..V15 0, 3, 1;
    OfpbicBadTableId = "OFPBIC_BAD_TABLE_ID": V11..V15 0, 3, 2;
    OfpbicUnsupMetadata = "OFPBIC_UNSUP_METADATA": V11..V15 0, 3, 3;
    OfpbicUnsupMetadataMask = "OFPBIC_UNSUP_METADATA_MASK": V11..V15 0, 3, 4;
    OfpbicBadExperimenter = "OFPBIC_BAD_EXPERIMENTER": V11..V15 0, 3, 5;
    OfpbicBadExpType = "OFPBIC_BAD_EXP_TYPE": V11..V11 0, 3, 5; V12..V15 0, 3, 6;
    OfpbicBadLen = "OFPBIC_BAD_LEN": V12..V15 0, 3, 7;
    OfpbicEperm = "OFPBIC_EPERM": V12..V15 0, 3, 8;
    OfpbicDupInst = "OFPBIC_DUP_INST": V11..V11 0x2320, 3, 256; V12..V13 0x4f4e_4600, 2600, 0; V14..V15 0, 3, 9;
    OfpbmcBadType = "OFPBMC_BAD_TYPE": V11..V15 0, 4, 0;
    OfpbmcBadLen = "OFPBMC_BAD_LEN": V11..V15 0, 4, 1;
    OfpbmcBadTag = "OFPBMC_BAD_TAG": V11..V15 0, 4, 2;
    OfpbmcBadDlAddrMask = "OFPBMC_BAD_DL_ADDR_MASK": V11..V15 0, 4, 3;
    OfpbmcBadNwAddrMask = "OFPBMC_BAD_NW_ADDR_MASK": V11..V15 0, 4, 4;
    OfpbmcBadWildcards = "OFPBMC_BAD_WILDCARDS": V10..V10 0x2320, 1, 262; V11..V15 0, 4, 5;
    OfpbmcBadField = "OFPBMC_BAD_FIELD": V10..V10 0x2320, 0, 263; V11..V15 0, 4, 6;
    OfpbmcBadValue = "OFPBMC_BAD_VALUE": V10..V10 0x2320, 1, 258; V11..V15 0, 4, 7;
    OfpbmcBadMask = "OFPBMC_BAD_MASK": V10..V11 0x2320, 1, 259; V12..V15 0, 4, 8;
    OfpbmcBadPrereq = "OFPBMC_BAD_PREREQ": V10..V11 0x2320, 1, 260; V12..V15 0, 4, 9;
    OfpbmcDupField = "OFPBMC_DUP_FIELD": V10..V11 0x2320, 1, 261; V12..V15 0, 4, 10;
    OfpbmcEperm = "OFPBMC_EPERM": V12..V15 0, 4, 11;
    NxbmcCtDatapathSupport = "NXBMC_CT_DATAPATH_SUPPORT": V10..V11 0x2320, 1, 264; V12..V15 0x2320, 43, 0;
    OfpfmfcUnknown = "OFPFMFC_UNKNOWN": V11..V15 0, 5, 0;
    OfpfmfcTableFull = "OFPFMFC_TABLE_FULL": V10..V10 0, 3, 0; V11..V15 0, 5, 1;
    OfpfmfcBadTableId = "OFPFMFC_BAD_TABLE_ID": V11..V15 0, 5, 2;
    OfpfmfcOverlap = "OFPFMFC_OVERLAP": V10..V10 0, 3, 1; V11..V15 0, 5, 3;
    OfpfmfcEperm = "OFPFMFC_EPERM": V10..V10 0, 3, 2; V11..V15 0, 5, 4;
    OfpfmfcBadTimeout = "OFPFMFC_BAD_TIMEOUT": V11..V15 0, 5, 5;
    OfpfmfcBadEmergTimeout = "OFPFMFC_BAD_EMERG_TIMEOUT": V10..V10 0, 3, 3;
    OfpfmfcBadCommand = "OFPFMFC_BAD_COMMAND": V10..V10 0, 3, 4; V11..V15 0, 5, 6;
    OfpfmfcBadFlags = "OFPFMFC_BAD_FLAGS": V10..V10 0x2320, 3, 258; V11..V11 0x2320, 5, 258; V12..V15 0, 5, 7;
    OfpfmfcCantSync = "OFPFMFC_CANT_SYNC": V14..V15 0, 5, 8;
    OfpfmfcBadPriority = "OFPFMFC_BAD_PRIORITY": V13..V13 0x4f4e_4600, 2360, 0; V14..V15 0, 5, 9;
    OfpfmfcIsSync = "OFPFMFC_IS_SYNC": V14..V15 0, 5, 10;
    OfpfmfcUnsupported = "OFPFMFC_UNSUPPORTED": V10..V10 0, 3, 5;
    NxfmfcHardware = "NXFMFC_HARDWARE": V10..V11 0x2320, 5, 256; V12..V15 0x2320, 12, 0;
    NxfmfcBadTableId = "NXFMFC_BAD_TABLE_ID": V10..V11 0x2320, 5, 257; V12..V15 0x2320, 13, 0;
    NxfmfcInvalidTlvField = "NXFMFC_INVALID_TLV_FIELD": V10..V11 0x2320, 1, 536; V12..V15 0x2320, 37, 0;
    OfpgmfcGroupExists = "OFPGMFC_GROUP_EXISTS": V10..V10 0x2320, 6, 0; V11..V15 0, 6, 0;
    OfpgmfcInvalidGroup = "OFPGMFC_INVALID_GROUP": V10..V10 0x2320, 6, 1; V11..V15 0, 6, 1;
    OfpgmfcWeightUnsupported = "OFPGMFC_WEIGHT_UNSUPPORTED": V10..V10 0x2320, 6, 2; V11..V15 0, 6, 2;
    OfpgmfcOutOfGroups = "OFPGMFC_OUT_OF_GROUPS": V10..V10 0x2320, 6, 3; V11..V15 0, 6, 3;
    OfpgmfcOutOfBuckets = "OFPGMFC_OUT_OF_BUCKETS": V10..V10 0x2320, 6, 4; V11..V15 0, 6, 4;
    OfpgmfcChainingUnsupported = "OFPGMFC_CHAINING_UNSUPPORTED": V10..V10 0x2320, 6, 5; V11..V15 0, 6, 5;
    OfpgmfcWatchUnsupported = "OFPGMFC_WATCH_UNSUPPORTED": V10..V10 0x2320, 6, 6; V11..V15 0, 6, 6;
    OfpgmfcLoop = "OFPGMFC_LOOP": V10..V10 0x2320, 6, 7; V11..V15 0, 6, 7;
    OfpgmfcUnknownGroup = "OFPGMFC_UNKNOWN_GROUP": V10..V10 0x2320, 6, 8; V11..V15 0, 6, 8;
    OfpgmfcChainedGroup = "OFPGMFC_CHAINED_GROUP": V10..V10 0x2320, 6, 9; V12..V15 0, 6, 9;
    OfpgmfcBadType = "OFPGMFC_BAD_TYPE": V10..V10 0x2320, 6, 10; V12..V15 0, 6, 10;
    OfpgmfcBadCommand = "OFPGMFC_BAD_COMMAND": V10..V10 0x2320, 6, 11; V12..V15 0, 6, 11;
    OfpgmfcBadBucket = "OFPGMFC_BAD_BUCKET": V10..V10 0x2320, 6, 12; V12..V15 0, 6, 12;
    OfpgmfcBadWatch = "OFPGMFC_BAD_WATCH": V10..V10 0x2320, 6, 13; V12..V15 0, 6, 13;
    OfpgmfcEperm = "OFPGMFC_EPERM": V10..V10 0x2320, 6, 14; V12..V15 0, 6, 14;
    OfpgmfcUnknownBucket = "OFPGMFC_UNKNOWN_BUCKET": V10..V10 0x2320, 6, 15; V15..V15 0, 6, 15;
    OfpgmfcBucketExists = "OFPGMFC_BUCKET_EXISTS": V10..V10 0x2320, 6, 16; V15..V15 0, 6, 16;
    OfppmfcBadPort = "OFPPMFC_BAD_PORT": V10..V10 0, 4, 0; V11..V15 0, 7, 0;
    OfppmfcBadHwAddr = "OFPPMFC_BAD_HW_ADDR": V10..V10 0, 4, 1; V11..V15 0, 7, 1;
    OfppmfcBadConfig = "OFPPMFC_BAD_CONFIG": V11..V15 0, 7, 2;
    OfppmfcBadAdvertise = "OFPPMFC_BAD_ADVERTISE": V11..V15 0, 7, 3;
    OfppmfcEperm = "OFPPMFC_EPERM": V12..V15 0, 7, 4;
    OfptmfcBadTable = "OFPTMFC_BAD_TABLE": V11..V15 0, 8, 0;
    OfptmfcBadConfig = "OFPTMFC_BAD_CONFIG": V11..V15 0, 8, 1;
    OfptmfcEperm = "OFPTMFC_EPERM": V12..V15 0, 8, 2;
    OfpqofcBadPort = "OFPQOFC_BAD_PORT": V10..V10 0, 5, 0; V11..V15 0, 9, 0;
    OfpqofcBadQueue = "OFPQOFC_BAD_QUEUE": V10..V10 0, 5, 1; V11..V15 0, 9, 1;
    OfpqofcEperm = "OFPQOFC_EPERM": V10..V10 0, 5, 2; V11..V15 0, 9, 2;
    NxqofcQueueError = "NXQOFC_QUEUE_ERROR": V14..V15 0x2320, 23, 0;
    OfpscfcBadFlags = "OFPSCFC_BAD_FLAGS": V11..V15 0, 10, 0;
    OfpscfcBadLen = "OFPSCFC_BAD_LEN": V11..V15 0, 10, 1;
    OfpscfcEperm = "OFPSCFC_EPERM": V12..V15 0, 10, 2;
    OfprrfcStale = "OFPRRFC_STALE": V12..V15 0, 11, 0;
    OfprrfcUnsup = "OFPRRFC_UNSUP": V12..V15 0, 11, 1;
    OfprrfcBadRole = "OFPRRFC_BAD_ROLE": V10..V11 0x2320, 1, 513; V12..V15 0, 11, 2;
    OfprrfcIdUnsup = "OFPRRFC_ID_UNSUP": V15..V15 0, 11, 3;
    OfprrfcIdInUse = "OFPRRFC_ID_IN_USE": V15..V15 0, 11, 4;
    OfpmmfcUnknown = "OFPMMFC_UNKNOWN": V13..V15 0, 12, 0;
    OfpmmfcMeterExists = "OFPMMFC_METER_EXISTS": V13..V15 0, 12, 1;
    OfpmmfcInvalidMeter = "OFPMMFC_INVALID_METER": V13..V15 0, 12, 2;
    OfpmmfcUnknownMeter = "OFPMMFC_UNKNOWN_METER": V13..V15 0, 12, 3;
    OfpmmfcBadCommand = "OFPMMFC_BAD_COMMAND": V13..V15 0, 12, 4;
    OfpmmfcBadFlags = "OFPMMFC_BAD_FLAGS": V13..V15 0, 12, 5;
    OfpmmfcBadRate = "OFPMMFC_BAD_RATE": V13..V15 0, 12, 6;
    OfpmmfcBadBurst = "OFPMMFC_BAD_BURST": V13..V15 0, 12, 7;
    OfpmmfcBadBand = "OFPMMFC_BAD_BAND": V13..V15 0, 12, 8;
    OfpmmfcBadBandValue = "OFPMMFC_BAD_BAND_VALUE": V13..V15 0, 12, 9;
    OfpmmfcOutOfMeters = "OFPMMFC_OUT_OF_METERS": V13..V15 0, 12, 10;
    OfpmmfcOutOfBands = "OFPMMFC_OUT_OF_BANDS": V13..V15 0, 12, 11;
    OfptffcBadTable = "OFPTFFC_BAD_TABLE": V13..V15 0, 13, 0;
    OfptffcBadMetadata = "OFPTFFC_BAD_METADATA": V13..V15 0, 13, 1;
    OfptffcEperm = "OFPTFFC_EPERM": V13..V15 0, 13, 5;
    OfptffcBadCapa = "OFPTFFC_BAD_CAPA": V15..V15 0, 13, 6;
    OfptffcBadMaxEnt = "OFPTFFC_BAD_MAX_ENT": V15..V15 0, 13, 7;
    OfptffcBadFeatures = "OFPTFFC_BAD_FEATURES": V15..V15 0, 13, 8;
    OfptffcBadCommand = "OFPTFFC_BAD_COMMAND": V15..V15 0, 13, 9;
    OfptffcTooMany = "OFPTFFC_TOO_MANY": V15..V15 0, 13, 10;
    NxtffcDupTable = "NXTFFC_DUP_TABLE": V13..V15 0x2320, 44, 0;
    OfpbpcBadType = "OFPBPC_BAD_TYPE": V10..V11 0x2320, 13, 2; V12..V12 0x2320, 25, 0; V13..V13 0, 13, 2; V14..V15 0, 14, 0;
    OfpbpcBadLen = "OFPBPC_BAD_LEN": V10..V11 0x2320, 13, 3; V12..V12 0x2320, 26, 0; V13..V13 0, 13, 3; V14..V15 0, 14, 1;
    OfpbpcBadValue = "OFPBPC_BAD_VALUE": V10..V11 0x2320, 13, 4; V12..V12 0x2320, 27, 0; V13..V13 0, 13, 4; V14..V15 0, 14, 2;
    OfpbpcTooMany = "OFPBPC_TOO_MANY": V10..V11 0x2320, 14, 3; V12..V12 0x2320, 28, 0; V13..V13 0x4f4e_4600, 4443, 0; V14..V15 0, 14, 3;
    OfpbpcDupType = "OFPBPC_DUP_TYPE": V10..V11 0x2320, 14, 4; V12..V12 0x2320, 29, 0; V13..V13 0x4f4e_4600, 4444, 0; V14..V15 0, 14, 4;
    OfpbpcBadExperimenter = "OFPBPC_BAD_EXPERIMENTER": V10..V11 0x2320, 14, 5; V12..V12 0x2320, 30, 0; V13..V13 0x4f4e_4600, 4445, 0; V14..V15 0, 14, 5;
    OfpbpcBadExpType = "OFPBPC_BAD_EXP_TYPE": V10..V11 0x2320, 14, 6; V12..V12 0x2320, 31, 0; V13..V13 0x4f4e_4600, 4446, 0; V14..V15 0, 14, 6;
    OfpbpcBadExpValue = "OFPBPC_BAD_EXP_VALUE": V10..V11 0x2320, 14, 7; V12..V12 0x2320, 32, 0; V13..V13 0x4f4e_4600, 4447, 0; V14..V15 0, 14, 7;
    OfpbpcEperm = "OFPBPC_EPERM": V10..V11 0x2320, 14, 8; V12..V12 0x2320, 33, 0; V13..V13 0x4f4e_4600, 4448, 0; V14..V15 0, 14, 8;
    OfpacfcInvalid = "OFPACFC_INVALID": V13..V13 0x4f4e_4600, 2370, 0; V14..V15 0, 15, 0;
    OfpacfcUnsupported = "OFPACFC_UNSUPPORTED": V13..V13 0x4f4e_4600, 2371, 0; V14..V15 0, 15, 1;
    OfpacfcEperm = "OFPACFC_EPERM": V13..V13 0x4f4e_4600, 2372, 0; V14..V15 0, 15, 2;
    OfpbfcUnknown = "OFPBFC_UNKNOWN": V13..V13 0x4f4e_4600, 2300, 0; V14..V15 0, 17, 0;
    OfpbfcEperm = "OFPBFC_EPERM": V13..V13 0x4f4e_4600, 2301, 0; V14..V15 0, 17, 1;
    OfpbfcBadId = "OFPBFC_BAD_ID": V13..V13 0x4f4e_4600, 2302, 0; V14..V15 0, 17, 2;
    OfpbfcBundleExist = "OFPBFC_BUNDLE_EXIST": V13..V13 0x4f4e_4600, 2303, 0; V14..V15 0, 17, 3;
    OfpbfcBundleClosed = "OFPBFC_BUNDLE_CLOSED": V13..V13 0x4f4e_4600, 2304, 0; V14..V15 0, 17, 4;
    OfpbfcOutOfBundles = "OFPBFC_OUT_OF_BUNDLES": V13..V13 0x4f4e_4600, 2305, 0; V14..V15 0, 17, 5;
    OfpbfcBadType = "OFPBFC_BAD_TYPE": V13..V13 0x4f4e_4600, 2306, 0; V14..V15 0, 17, 6;
    OfpbfcBadFlags = "OFPBFC_BAD_FLAGS": V13..V13 0x4f4e_4600, 2307, 0; V14..V15 0, 17, 7;
    OfpbfcMsgBadLen = "OFPBFC_MSG_BAD_LEN": V13..V13 0x4f4e_4600, 2308, 0; V14..V15 0, 17, 8;
    OfpbfcMsgBadXid = "OFPBFC_MSG_BAD_XID": V13..V13 0x4f4e_4600, 2309, 0; V14..V15 0, 17, 9;
    OfpbfcMsgUnsup = "OFPBFC_MSG_UNSUP": V13..V13 0x4f4e_4600, 2310, 0; V14..V15 0, 17, 10;
    OfpbfcMsgConflict = "OFPBFC_MSG_CONFLICT": V13..V13 0x4f4e_4600, 2311, 0; V14..V15 0, 17, 11;
    OfpbfcMsgTooMany = "OFPBFC_MSG_TOO_MANY": V13..V13 0x4f4e_4600, 2312, 0; V14..V15 0, 17, 12;
    OfpbfcMsgFailed = "OFPBFC_MSG_FAILED": V13..V13 0x4f4e_4600, 2313, 0; V14..V15 0, 17, 13;
    OfpbfcTimeout = "OFPBFC_TIMEOUT": V13..V13 0x4f4e_4600, 2314, 0; V14..V15 0, 17, 14;
    OfpbfcBundleInProgress = "OFPBFC_BUNDLE_IN_PROGRESS": V13..V13 0x4f4e_4600, 2315, 0; V14..V15 0, 17, 15;
    OfpbfcSchedNotSupported = "OFPBFC_SCHED_NOT_SUPPORTED": V15..V15 0, 17, 16;
    OfpbfcSchedFuture = "OFPBFC_SCHED_FUTURE": V15..V15 0, 17, 17;
    OfpbfcSchedPast = "OFPBFC_SCHED_PAST": V15..V15 0, 17, 18;
    OfpbfcBadVersion = "OFPBFC_BAD_VERSION": V14..V15 0x2320, 22, 0;
    OfpmofcUnknown = "OFPMOFC_UNKNOWN": V14..V15 0, 16, 0;
    OfpmofcMonitorExists = "OFPMOFC_MONITOR_EXISTS": V10..V11 0x2320, 1, 517; V12..V13 0x2320, 6, 0; V14..V15 0, 16, 1;
    OfpmofcInvalidMonitor = "OFPMOFC_INVALID_MONITOR": V14..V15 0, 16, 2;
    OfpmofcUnknownMonitor = "OFPMOFC_UNKNOWN_MONITOR": V10..V11 0x2320, 1, 519; V12..V13 0x2320, 8, 0; V14..V15 0, 16, 3;
    OfpmofcBadCommand = "OFPMOFC_BAD_COMMAND": V14..V15 0, 16, 4;
    OfpmofcBadFlags = "OFPMOFC_BAD_FLAGS": V10..V11 0x2320, 1, 518; V12..V13 0x2320, 7, 0; V14..V15 0, 16, 5;
    OfpmofcBadTableId = "OFPMOFC_BAD_TABLE_ID": V14..V15 0, 16, 6;
    OfpmofcBadOut = "OFPMOFC_BAD_OUT": V14..V15 0, 16, 7;
    NxttmfcBadCommand = "NXTTMFC_BAD_COMMAND": V10..V11 0x2320, 1, 527; V12..V15 0x2320, 16, 0;
    NxttmfcBadOptLen = "NXTTMFC_BAD_OPT_LEN": V10..V11 0x2320, 1, 528; V12..V15 0x2320, 17, 0;
    NxttmfcBadFieldIdx = "NXTTMFC_BAD_FIELD_IDX": V10..V11 0x2320, 1, 529; V12..V15 0x2320, 18, 0;
    NxttmfcTableFull = "NXTTMFC_TABLE_FULL": V10..V11 0x2320, 1, 530; V12..V15 0x2320, 19, 0;
    NxttmfcAlreadyMapped = "NXTTMFC_ALREADY_MAPPED": V10..V11 0x2320, 1, 531; V12..V15 0x2320, 20, 0;
    NxttmfcDupEntry = "NXTTMFC_DUP_ENTRY": V10..V11 0x2320, 1, 532; V12..V15 0x2320, 21, 0;
    NxttmfcInvalidTlvDel = "NXTTMFC_INVALID_TLV_DEL": V10..V11 0x2320, 1, 537; V12..V15 0x2320, 38, 0;
    NxrNotSupported = "NXR_NOT_SUPPORTED": V10..V11 0x2320, 1, 533; V12..V15 0x2320, 34, 0;
    NxrStale = "NXR_STALE": V10..V11 0x2320, 1, 534; V12..V15 0x2320, 35, 0;
    NxstNotConfigured = "NXST_NOT_CONFIGURED": V10..V11 0x2320, 1, 535; V12..V15 0x2320, 36, 0;
}
