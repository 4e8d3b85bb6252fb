#pragma once
#include "emulator.h"
#include <vector>
namespace emu {
struct PerfSite {                       // one source line and access kind, summed over the traced blocks
  std::string where; bool shared, write, atomic; int size;
  uint64_t requests, lanes, sectors, min_sectors, phases, wavefronts;
};
struct Perf { std::vector<PerfSite> sites; uint64_t gld_sectors, gst_sectors, gld_min, gst_min, unique_ld_sectors, unique_st_sectors, sh_phases, sh_wavefronts, ldm_phases, ldm_wavefronts; };
extern bool perf_on;                    // off: checks only. on: log every access, group lanes into warp requests
extern bool check_on;
Perf perf_collect();                    // facts of the last launch
void perf_print(const Perf&, FILE*);
}
