// traffic.cpp -- see traffic.h.
#include "emulator/trace/traffic.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "emulator/symbols.h"

namespace fastconv::emulator::traffic {
namespace {

constexpr uintptr_t kSector = 32, kWord = 4;
constexpr int kBanks = 32;

/// One access of one thread.
struct Part {
  uint32_t code, occurrence;  // which of the thread's accesses from this place in the code
  uint32_t bytes;
  uint8_t lane;
  bool store, shared;
  uintptr_t address;
};
std::vector<Part> parts[kMaxThreads];

/// Sums over all requests from one place.
struct Place {
  uint32_t code, bytes;
  bool store, shared;
  bool operator<(const Place& o) const {
    return std::tie(code, bytes, store, shared) < std::tie(o.code, o.bytes, o.store, o.shared);
  }
};
std::map<Place, AccessSite> places;

uint64_t bulk_sectors, bulk_sectors_minimum;

/// How many units of a size the parts touch.
uint64_t touched(const Part* begin, const Part* end, uintptr_t unit) {
  static std::vector<uintptr_t> units;
  units.clear();
  for (const Part* part = begin; part != end; ++part) {
    for (uintptr_t u = part->address / unit; u <= (part->address + part->bytes - 1) / unit; ++u)
      units.push_back(u);
  }
  std::sort(units.begin(), units.end());
  return std::unique(units.begin(), units.end()) - units.begin();
}

/// Accesses to the most wanted bank; lanes that want the same word share one.
uint64_t wavefronts(const Part* begin, const Part* end) {
  std::vector<uintptr_t> words[kBanks];
  size_t worst = 0;
  for (const Part* part = begin; part != end; ++part) {
    for (uintptr_t w = part->address / kWord; w <= (part->address + part->bytes - 1) / kWord; ++w) {
      auto& bank = words[w % kBanks];
      if (std::find(bank.begin(), bank.end(), w) == bank.end()) bank.push_back(w);
      worst = std::max(worst, bank.size());
    }
  }
  return worst;
}

void add_request(const Part* begin, const Part* end) {
  AccessSite& site = places[{begin->code, begin->bytes, begin->store, begin->shared}];
  ++site.requests;
  site.lanes += end - begin;
  site.words += touched(begin, end, kWord);
  if (!begin->shared) {
    site.sectors += touched(begin, end, kSector);
    site.sectors_minimum += (touched(begin, end, 1) + kSector - 1) / kSector;
    return;
  }
  // Wide accesses are served half or a quarter of the warp at a time.
  const int lanes = begin->bytes >= 16 ? 8 : begin->bytes >= 8 ? 16 : kLanes;
  for (const Part* part = begin; part != end;) {
    const Part* next = part;
    while (next != end && next->lane / lanes == part->lane / lanes) ++next;
    ++site.wavefronts_minimum;
    site.wavefronts += wavefronts(part, next);
    part = next;
  }
}

void end_warp(int first_thread) {
  static std::vector<Part> all;
  all.clear();
  for (int lane = 0; lane < kLanes && first_thread + lane < state.thread_count; ++lane) {
    auto& mine = parts[first_thread + lane];
    std::unordered_map<uint32_t, uint32_t> occurrences;
    for (Part& part : mine) part.occurrence = occurrences[part.code]++;
    all.insert(all.end(), mine.begin(), mine.end());
    mine.clear();
  }
  const auto order = [](const Part& p) { return std::make_tuple(p.code, p.occurrence, p.lane); };
  std::sort(all.begin(), all.end(), [&](const Part& a, const Part& b) { return order(a) < order(b); });
  for (size_t i = 0; i < all.size();) {
    size_t k = i;
    while (k < all.size() && all[k].code == all[i].code && all[k].occurrence == all[i].occurrence) ++k;
    add_request(all.data() + i, all.data() + k);
    i = k;
  }
}

}  // namespace

void reset() {
  for (auto& mine : parts) mine.clear();
  places.clear();
  bulk_sectors = bulk_sectors_minimum = 0;
}

void add(int thread, uint32_t code, uintptr_t address, size_t bytes, Access kind, bool shared) {
  parts[thread].push_back({code, 0, static_cast<uint32_t>(bytes), static_cast<uint8_t>(thread % kLanes),
                           kind == Access::kWrite, shared, address});
}

void add_matrix(const void* const* rows, uint32_t code) {
  Part request[8];
  for (uint8_t i = 0; i < 8; ++i)
    request[i] = {code, 0, 16, i, false, true, reinterpret_cast<uintptr_t>(rows[i])};
  add_request(request, request + 8);
}

void add_bulk(uintptr_t address, size_t bytes) {
  bulk_sectors += (address + bytes - 1) / kSector - address / kSector + 1;
  bulk_sectors_minimum += (bytes + kSector - 1) / kSector;
}

void end_block() {
  for (int first = 0; first < state.thread_count; first += kLanes) end_warp(first);
}

Traffic collect(Regions& global) {
  Traffic traffic;
  auto& counts = traffic.counts;
  for (const char* access : {"load", "store"}) {
    const std::string prefix = access;
    for (const char* fact : {"_sectors", "_sectors_minimum", "_sectors_distinct", "_bytes_distinct"}) {
      counts[prefix + fact] = 0;
    }
    for (const char* fact : {"_wavefronts", "_wavefronts_minimum", "_words"})
      counts["shared_" + prefix + fact] = 0;
  }
  counts["load_sectors"] = bulk_sectors;
  counts["load_sectors_minimum"] = bulk_sectors_minimum;

  std::vector<const void*> codes;
  for (const auto& [place, site] : places)
    codes.push_back(reinterpret_cast<void*>(module().begin + place.code));
  const std::vector<std::string> names = call_sites(codes);
  std::map<std::tuple<std::string, bool, bool, uint32_t>, AccessSite> lines;
  size_t i = 0;
  for (const auto& [place, sums] : places) {
    AccessSite& site = lines[{names[i], place.shared, place.store, place.bytes}];
    site.where = names[i++];
    site.memory = place.shared ? "shared" : "global";
    site.access = place.store ? "store" : "load";
    site.bytes = place.bytes;
    for (const auto member :
         {&AccessSite::requests, &AccessSite::lanes, &AccessSite::sectors, &AccessSite::sectors_minimum,
          &AccessSite::wavefronts, &AccessSite::wavefronts_minimum, &AccessSite::words}) {
      site.*member += sums.*member;
    }
    const std::string prefix = place.shared ? "shared_" + site.access : site.access;
    if (place.shared) {
      counts[prefix + "_wavefronts"] += sums.wavefronts;
      counts[prefix + "_wavefronts_minimum"] += sums.wavefronts_minimum;
      counts[prefix + "_words"] += sums.words;
    } else {
      counts[prefix + "_sectors"] += sums.sectors;
      counts[prefix + "_sectors_minimum"] += sums.sectors_minimum;
    }
  }
  for (const auto& [line, site] : lines) traffic.sites.push_back(site);
  for (const auto& region : global.all()) {
    counts["load_bytes_distinct"] += region->loaded.bytes();
    counts["load_sectors_distinct"] += region->loaded.sectors();
    counts["store_bytes_distinct"] += region->stored.bytes();
    counts["store_sectors_distinct"] += region->stored.sectors();
  }
  return traffic;
}

}  // namespace fastconv::emulator::traffic
