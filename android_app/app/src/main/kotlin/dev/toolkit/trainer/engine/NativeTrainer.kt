package dev.toolkit.trainer.engine

/** The functions of libtoolkit_jni.so (toolkit/runtime/hosts/jni/bridge.cc); [NativeHost] is the way to use them. */
internal object NativeTrainer {
    @JvmStatic external fun create(options: ByteArray): Long

    /** [waiting] is told why a save waits for storage, and an empty line once it waits no more. */
    @JvmStatic external fun step(trainer: Long, waiting: LineListener): Boolean

    @JvmStatic external fun requestStop(trainer: Long)

    @JvmStatic external fun note(trainer: Long, event: ByteArray, detail: ByteArray)

    /** step, steps, tokens, loss, lr, grad_norm, seconds, peak_kib, running, stopped */
    @JvmStatic external fun progress(trainer: Long): DoubleArray

    @JvmStatic external fun close(trainer: Long)

    @JvmStatic external fun evaluate(options: ByteArray, lines: LineListener)

    /** Returns a line of JSON in UTF-8. */
    @JvmStatic external fun dryRun(options: ByteArray): ByteArray

    @JvmStatic external fun info(): ByteArray
}
