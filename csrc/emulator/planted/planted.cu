// planted.cu -- see planted.h.
#include <map>

#include "emulator/planted/planted.h"

namespace fastconv::planted {
namespace {

const std::map<std::string, Bug> kBugs = {
    {"global_read", Bug::kGlobalRead},
    {"global_write", Bug::kGlobalWrite},
    {"shared_write", Bug::kSharedWrite},
    {"missing_barrier", Bug::kMissingBarrier},
    {"unwritten_shared", Bug::kUnwrittenShared},
    {"unwritten_output", Bug::kUnwrittenOutput},
    {"divergent_barrier", Bug::kDivergentBarrier},
    {"misaligned_copy", Bug::kMisalignedCopy},
    {"wait_for_too_few", Bug::kWaitForTooFew},
    {"wait_after_barrier", Bug::kWaitAfterBarrier},
    {"divergent_shuffle", Bug::kDivergentShuffle},
    {"no_wait_for_empty", Bug::kNoWaitForEmpty},
    {"too_few_bytes", Bug::kTooFewBytes},
    {"early_release", Bug::kEarlyRelease},
    {"early_read", Bug::kEarlyRead},
    {"misaligned_vector", Bug::kMisalignedVector},
    {"missing_warp_barrier", Bug::kMissingWarpBarrier},
    {"blocks_write_same", Bug::kBlocksWriteSame},
    {"blocks_read_write", Bug::kBlocksReadWrite},
    {"unwritten_input", Bug::kUnwrittenInput},
    {"early_exit", Bug::kEarlyExit},
    {"write_after_read", Bug::kWriteAfterRead},
    {"barrier_at_two_places", Bug::kBarrierAtTwoPlaces},
    {"wrong_mask", Bug::kWrongMask},
    {"same_value", Bug::kSameValue},
    {"too_much_shared", Bug::kTooMuchShared},
};

const std::map<std::string, void (*)(const Arguments&)> kKernels = {
    {"simt", run_simt}, {"mma", run_mma}, {"wgmma", run_wgmma}, {"small", run_small}};

}  // namespace

void run_planted(const std::string& kernel, const std::string& bug, bool correct,
                 const std::vector<Address>& inputs, Address output) {
  const auto run = kKernels.find(kernel);
  const auto which = kBugs.find(bug);
  if (run == kKernels.end() || which == kBugs.end()) throw DispatchError("no bug " + bug + " in " + kernel);
  run->second({which->second, correct, inputs, output});
}

std::vector<std::string> planted_bugs() {
  std::vector<std::string> names;
  for (const auto& [name, bug] : kBugs) names.push_back(name);
  return names;
}

}  // namespace fastconv::planted
