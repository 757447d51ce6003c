// What Everstep needs of libtorch and tch does not offer: convolutions in the channels-last layout with both gradients from one call, that
// layout itself, and the switches that make results repeatable. Errors come back as text: no C++ exception may reach Rust.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/GradMode.h>

#include <cstdlib>
#include <string>
#include <tuple>

namespace {

thread_local std::string message;

template <class Work> const char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    message = error.what();
    return message.c_str();
  }
}

at::Tensor channels_last(const at::Tensor &x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

} // namespace

extern "C" {

// y = conv(x, weight), its padding k / 2.
const char *everstep_conv(const at::Tensor *x, const at::Tensor *weight, int64_t stride, int64_t groups, at::Tensor **y) {
  return guarded([&] {
    c10::AutoGradMode plain(false);
    const int64_t pad = weight->size(2) / 2;
    *y = new at::Tensor(at::convolution(channels_last(*x), channels_last(*weight), {}, {stride, stride}, {pad, pad}, {1, 1}, false, {0, 0}, groups));
  });
}

// d loss / dx and d loss / d weight; a null pointer asks for none.
const char *everstep_conv_backward(const at::Tensor *x, const at::Tensor *weight, const at::Tensor *dy, int64_t stride, int64_t groups,
                                   at::Tensor **dx, at::Tensor **dweight) {
  return guarded([&] {
    c10::AutoGradMode plain(false);
    const int64_t pad = weight->size(2) / 2;
    auto gradients = at::convolution_backward(channels_last(*dy), channels_last(*x), channels_last(*weight), {}, {stride, stride}, {pad, pad},
                                              {1, 1}, false, {0, 0}, groups, {dx != nullptr, dweight != nullptr, false});
    if (dx) *dx = new at::Tensor(std::get<0>(gradients));
    if (dweight) *dweight = new at::Tensor(std::get<1>(gradients).contiguous());
  });
}

// The same values, channels innermost.
const char *everstep_channels_last(const at::Tensor *x, at::Tensor **y) {
  return guarded([&] { *y = new at::Tensor(channels_last(*x)); });
}

// An uninitialised tensor of x's shape, channels innermost.
const char *everstep_empty_channels_last(const at::Tensor *x, at::Tensor **y) {
  return guarded([&] { *y = new at::Tensor(at::empty_like(*x, x->options(), at::MemoryFormat::ChannelsLast)); });
}

// Only algorithms whose results repeat, and single precision that is single.
const char *everstep_repeatable() {
  return guarded([&] {
    // cuBLAS repeats its results only with workspaces of a fixed size, and reads which when it starts.
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    auto &context = at::globalContext();
    context.setDeterministicAlgorithms(true, false);
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);
    context.setFloat32Precision("generic", "all", "ieee");
    context.setAllowFP16ReductionCuBLAS(false);
    context.setAllowBF16ReductionCuBLAS(false);
  });
}

} // extern "C"
