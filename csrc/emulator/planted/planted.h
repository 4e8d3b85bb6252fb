// planted.h -- kernels with one mistake each, which the builds of the emulator have to catch, and the same
// without. Plain C++.
#pragma once
#include <string>
#include <vector>

#include "device/dispatch.h"

namespace fastconv::planted {

/// What is wrong with a kernel.
enum class Bug {
  kNone,
  // In whole kernels.
  kGlobalRead,        // past the end of a row, where the value does not matter
  kGlobalWrite,       // one element past the end of the output
  kSharedWrite,       // one element past the end of a tile
  kMissingBarrier,    // between the last read of a tile and its next write
  kUnwrittenShared,   // one element of a tile
  kUnwrittenOutput,   // one element
  kDivergentBarrier,  // that some threads do not reach
  kMisalignedCopy,    // the source of cp.async
  kWaitForTooFew,     // groups of copies
  kWaitAfterBarrier,  // for one's own copies, which leaves those of others
  kDivergentShuffle,  // lanes leave that others still name in the mask
  kNoWaitForEmpty,    // a stage is loaded while it is read
  kTooFewBytes,       // are expected of a load
  kEarlyRelease,      // of a stage that wgmma still reads
  kEarlyRead,         // of what wgmma still computes
  // In kernels of a few lines.
  kMisalignedVector,
  kMissingWarpBarrier,
  kBlocksWriteSame,  // two blocks, one element
  kBlocksReadWrite,  // a lost update
  kUnwrittenInput,   // hidden by a comparison
  kEarlyExit,        // before a barrier
  kWriteAfterRead,   // without a barrier in between
  kBarrierAtTwoPlaces,
  kWrongMask,  // of a shuffle
  kSameValue,  // from several threads
  kTooMuchShared,
};

struct Arguments {
  Bug bug;       // that the kernel has
  bool correct;  // or would have
  const std::vector<Address>& inputs;
  Address output;
};

/// The bug of a kernel that has several.
inline Bug bug_of(const Arguments& use) { return use.correct ? Bug::kNone : use.bug; }

void run_simt(const Arguments& arguments);
void run_mma(const Arguments& arguments);
void run_wgmma(const Arguments& arguments);
void run_small(const Arguments& arguments);

/// Launch a kernel, "simt", "mma", "wgmma" or "small", with a bug by its name, or without it. planted.cu has
/// the names, the kernels' files the shapes.
void run_planted(const std::string& kernel, const std::string& bug, bool correct,
                 const std::vector<Address>& inputs, Address output);

/// Names of the bugs.
std::vector<std::string> planted_bugs();

}  // namespace fastconv::planted
