// shadow.cpp -- see shadow.h.
#include "emulator/trace/shadow.h"

#include <algorithm>
#include <new>

namespace fastconv::emulator {
namespace {

using Cells = std::unique_ptr<Cell[], void (*)(void*)>;

constexpr uintptr_t kPlaceBytes = uintptr_t{1} << 40;  // more than an array has

/// Zeroed, and without touching the pages of large arrays.
Cells make_cells(size_t count) {
  void* memory = calloc(count, sizeof(Cell));
  if (!memory) throw std::bad_alloc();
  return Cells(static_cast<Cell*>(memory), free);
}

}  // namespace

void ByteSet::add(size_t begin, size_t count) {
  if (bits_.size() * 64 < begin + count) bits_.resize((begin + count + 63) / 64);
  for (size_t i = begin; i < begin + count;) {
    const size_t shift = i % 64, here = std::min(64 - shift, begin + count - i);
    bits_[i / 64] |= (here == 64 ? ~uint64_t{0} : (uint64_t{1} << here) - 1) << shift;
    i += here;
  }
}

uint64_t ByteSet::bytes() const {
  uint64_t sum = 0;
  for (const uint64_t word : bits_) sum += __builtin_popcountll(word);
  return sum;
}

uint64_t ByteSet::sectors() const {
  constexpr uintptr_t kSector = 32, kNone = ~uintptr_t{0};
  uint64_t sum = 0;
  uintptr_t last = kNone;
  for (size_t i = 0; i < bits_.size() * 64; ++i) {
    if (i % 64 == 0 && bits_[i / 64] == 0) {
      i += 63;
      continue;
    }
    const uintptr_t sector = i / kSector;
    if (sector != last && contains(i)) {
      ++sum;
      last = sector;
    }
  }
  return sum;
}

Region::Region(uintptr_t begin, size_t bytes, std::string name, bool initialised)
    : begin(begin),
      end(begin + bytes),
      name(std::move(name)),
      initialised(initialised),
      cells(make_cells(bytes / granule + 1)) {}

void Region::refine(size_t offset, size_t bytes) {
  while (granule > 1 && (offset % granule || bytes % granule)) {
    const size_t count = (end - begin) / granule + 1;
    Cells finer = make_cells(2 * count);
    for (size_t i = 0; i < count; ++i) finer[2 * i] = finer[2 * i + 1] = cells[i];
    cells = std::move(finer);
    granule /= 2;
  }
}

Region& Regions::add(uintptr_t begin, size_t bytes, const std::string& name, bool initialised) {
  auto region = std::make_unique<Region>(begin, bytes, name, initialised);
  Region& added = *region;
  static uintptr_t next_place;
  added.place = next_place++ * kPlaceBytes;
  const auto larger = [&](const std::unique_ptr<Region>& other) {
    return other->end - other->begin >= bytes;
  };
  regions_.insert(std::partition_point(regions_.begin(), regions_.end(), larger), std::move(region));
  update_overlaps();
  return added;
}

void Regions::remove(uintptr_t begin) {
  // Of several that begin there, the last, which was registered last among those of its size.
  for (size_t i = regions_.size(); i-- > 0;) {
    if (regions_[i]->begin != begin) continue;
    regions_.erase(regions_.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
  update_overlaps();
}

void Regions::remove_overlapping(uintptr_t begin, uintptr_t end) {
  const auto inside = [&](const std::unique_ptr<Region>& r) { return r->begin < end && begin < r->end; };
  regions_.erase(std::remove_if(regions_.begin(), regions_.end(), inside), regions_.end());
  update_overlaps();
}

void Regions::update_overlaps() {
  last_found_ = nullptr;
  for (const auto& region : regions_) {
    region->alone = std::none_of(regions_.begin(), regions_.end(), [&](const std::unique_ptr<Region>& other) {
      return other != region && other->overlaps(*region);
    });
  }
}

Region* Regions::find(uintptr_t address, size_t bytes) {
  if (last_found_ && last_found_->contains(address, bytes)) return last_found_;
  for (const auto& region : regions_) {
    if (!region->contains(address, bytes)) continue;
    if (region->alone) last_found_ = region.get();
    return region.get();
  }
  return nullptr;
}

std::string Regions::describe(uintptr_t address) const {
  const Region *before = nullptr, *after = nullptr;
  for (const auto& region : regions_) {
    if (region->begin <= address && (!before || region->begin > before->begin)) before = region.get();
    if (region->begin > address && (!after || region->begin < after->begin)) after = region.get();
  }
  const auto size = [](const Region& r) {
    return r.name + ", which has " + std::to_string(r.end - r.begin) + " bytes";
  };
  if (before && address < before->end) return "across the end of " + size(*before);
  if (before) return std::to_string(address - before->end) + " bytes past the end of " + size(*before);
  if (after) return std::to_string(after->begin - address) + " bytes before " + size(*after);
  return "nothing is known there";
}

}  // namespace fastconv::emulator
