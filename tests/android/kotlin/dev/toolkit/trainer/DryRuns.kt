package dev.toolkit.trainer

import dev.toolkit.trainer.Fixtures.options
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import java.io.File

/** What a dry run owes, whichever way the engine is hosted. */
object DryRuns {
    fun check(folder: File) {
        val out = File(folder, "läuft nicht")
        val needs = Engine.dryRun(options(out))
        assertFalse(out.exists())
        val memory = needs.getJSONObject("memory")
        assertEquals(needs.getLong("peak_bytes"), memory.keys().asSequence().sumOf(memory::getLong))
        val adapter = Fixtures.referenceAdapter().size.toLong()
        assertTrue(needs.toString(), memory.getLong("adapters") in adapter / 2..2 * adapter)
        val wrong = options(out) + ("bundle" to File(folder, "fehlt-🙂").path)
        assertTrue("fehlt-🙂" in assertThrows(EngineException::class.java) { Engine.dryRun(wrong) }.message!!)
        assertEquals(2, assertThrows(EngineException::class.java) { Engine.dryRun(options(out) + ("steps" to "many")) }.status)
        Engine.open(options(out)).use { trainer ->
            assertThrows(EngineException::class.java) { Engine.dryRun(options(File(folder, "b"))) }
            while (trainer.step()) Unit
        }
        val stored = out.walk().filter { it.isFile && it.name != "trace.jsonl" }.sumOf(File::length)
        assertTrue("$stored of $needs", stored in needs.getLong("saved_bytes")..needs.getLong("storage_bytes"))
    }
}
