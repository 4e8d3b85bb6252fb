// symbols.cpp -- see symbols.h.
#include "emulator/symbols.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace fastconv::emulator {
namespace {

Module find_module() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&find_module), &info)) abort();
  Module found{reinterpret_cast<uintptr_t>(info.dli_fbase), 0, info.dli_fname};
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* argument) {
        Module& module = *static_cast<Module*>(argument);
        bool ours = false;
        uintptr_t last = 0;
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const auto& segment = object->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD) continue;
          const uintptr_t begin = object->dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
          ours = ours || (module.begin >= begin && module.begin < end);
          last = std::max(last, end);
        }
        if (ours) module.end = last;
        return int{ours};
      },
      &found);
  return found;
}

/// Lines that addr2line prints for addresses of our module.
std::vector<std::string> addr2line(const char* flags, const std::vector<uintptr_t>& addresses) {
  std::string command = std::string("addr2line ") + flags + " -e '" + module().path + "'";
  char text[4096];
  for (const uintptr_t address : addresses) {
    snprintf(text, sizeof text, " %#zx", address - module().begin);
    command += text;
  }
  std::vector<std::string> lines;
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (!pipe) return lines;
  while (fgets(text, sizeof text, pipe)) {
    lines.emplace_back(text);
    while (!lines.back().empty() && lines.back().back() == '\n') lines.back().pop_back();
  }
  pclose(pipe);
  return lines;
}

/// Headers whose functions stand for instructions: who calls them is of interest.
bool is_primitive(const std::string& line) {
  const bool ours = line.find("csrc/device/") != line.npos || line.find("csrc/emulator/") != line.npos;
  return ours && line.find(".h:") != line.npos;
}

/// path/file.h:12 (discriminator 3) -> file.h:12
std::string shortened(const std::string& line) {
  const std::string place = line.substr(0, line.find(" ("));
  const size_t slash = place.rfind('/');
  return slash == place.npos ? place : place.substr(slash + 1);
}

}  // namespace

const Module& module() {
  static const Module found = find_module();
  return found;
}

std::vector<std::string> call_sites(const std::vector<const void*>& return_addresses) {
  constexpr size_t kAtOnce = 500;  // addresses on a command line
  static std::map<uintptr_t, std::string> known;
  std::vector<uintptr_t> unknown;
  for (const void* p : return_addresses) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(p) - 1;
    if (module().contains(address) && !known.count(address)) unknown.push_back(address);
  }
  for (size_t begin = 0; begin < unknown.size(); begin += kAtOnce) {
    const auto end = unknown.begin() + static_cast<std::ptrdiff_t>(std::min(unknown.size(), begin + kAtOnce));
    // With -a each answer begins with its address, with -i the inlined frames follow, innermost first.
    std::string* answer = nullptr;
    bool settled = false;
    for (const std::string& line :
         addr2line("-a -i", {unknown.begin() + static_cast<std::ptrdiff_t>(begin), end})) {
      if (line.rfind("0x", 0) == 0) {
        answer = &known[strtoull(line.c_str(), nullptr, 16) + module().begin];
        settled = false;
      } else if (answer && !settled) {
        settled = !is_primitive(line);
        if (settled || answer->empty()) *answer = shortened(line);
      }
    }
  }
  std::vector<std::string> sites;
  for (const void* p : return_addresses) {
    const auto found = known.find(reinterpret_cast<uintptr_t>(p) - 1);
    sites.push_back(!p ? "an asynchronous copy" : found == known.end() ? "?" : found->second);
  }
  return sites;
}

std::string function_name(const void* function) {
  static std::map<const void*, std::string> known;
  std::string& name = known[function];
  if (!name.empty()) return name;
  const std::vector<std::string> lines = addr2line("-f -C", {reinterpret_cast<uintptr_t>(function)});
  name = lines.empty() ? "?" : lines[0];
  for (const char* part : {"void ", "fastconv::", "(anonymous namespace)::"}) {
    for (size_t at = 0; (at = name.find(part)) != name.npos;) name.erase(at, std::string(part).size());
  }
  // Parameters begin with the parenthesis outside the template arguments.
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] == '(' && depth == 0) name.resize(i);
  }
  return name;
}

}  // namespace fastconv::emulator
