// shadow.h -- what the tracer remembers of memory: which bytes there are, who touched them last, what was
// written at all.
#pragma once
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "emulator/trace/clocks.h"

namespace fastconv::emulator {

/// The last accesses to a few neighbouring bytes. Two readers are remembered, so that a race may be missed
/// but none is invented.
struct Cell {
  Stamp written, read, read_before;
  uint32_t initialised;  // epoch in which they were written, 0 for never
};

/// Bytes that were touched in a launch, one bit each.
class ByteSet {
 public:
  void add(size_t begin, size_t count);
  void clear() { bits_.clear(); }
  uint64_t bytes() const;
  /// 32-byte sectors they lie in, where byte 0 begins one.
  uint64_t sectors() const;

 private:
  bool contains(size_t i) const { return bits_[i / 64] >> (i % 64) & 1; }
  std::vector<uint64_t> bits_;
};

/// An array in global memory or an object in shared memory.
struct Region {
  Region(uintptr_t begin, size_t bytes, std::string name, bool initialised);

  bool contains(uintptr_t address, size_t bytes) const { return address >= begin && address + bytes <= end; }
  bool overlaps(const Region& other) const { return begin < other.end && other.begin < end; }

  /// Make cells small enough that no other access shares one with this.
  void refine(size_t offset, size_t bytes);

  uintptr_t begin, end;
  std::string name;
  bool initialised;     // all of it, from the start
  bool alone = true;    // overlaps no other region
  uintptr_t place = 0;  // where traffic is counted as if it began: arrays on a GPU begin with a sector
  uint32_t block = 0;   // of shared memory: the epoch of the block that it belongs to
  size_t granule = 4;   // bytes in a cell
  std::unique_ptr<Cell[], void (*)(void*)> cells;
  ByteSet loaded, stored;  // while counting
};

/// All regions of one kind of memory. Where they overlap, the largest that holds an access gets it.
class Regions {
 public:
  Region& add(uintptr_t begin, size_t bytes, const std::string& name, bool initialised);
  void remove(uintptr_t begin);
  void remove_overlapping(uintptr_t begin, uintptr_t end);
  Region* find(uintptr_t address, size_t bytes);
  /// Where an access lies that is in no region.
  std::string describe(uintptr_t address) const;
  std::vector<std::unique_ptr<Region>>& all() { return regions_; }

 private:
  void update_overlaps();
  std::vector<std::unique_ptr<Region>> regions_;  // largest first
  Region* last_found_ = nullptr;
};

}  // namespace fastconv::emulator
