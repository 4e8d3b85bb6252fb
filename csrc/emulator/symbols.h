// symbols.h -- names of places in the code, from the debug information by addr2line.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fastconv::emulator {

/// The executable or shared object that the emulator is part of.
struct Module {
  uintptr_t begin, end;
  std::string path;
  bool contains(uintptr_t address) const { return address >= begin && address < end; }
};
const Module& module();

/// file:line of the call that returns to each address; where a primitive was inlined, of its caller.
std::vector<std::string> call_sites(const std::vector<const void*>& return_addresses);

/// The function that begins at an address, without return type, parameters and namespaces of its own.
std::string function_name(const void* function);

}  // namespace fastconv::emulator
