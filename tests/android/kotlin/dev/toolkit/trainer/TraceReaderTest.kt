package dev.toolkit.trainer

import dev.toolkit.trainer.store.TraceReader
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.File

/** A trace that grows, that a kill tore apart, and of which only the end is wanted. */
@RunWith(RobolectricTestRunner::class)
class TraceReaderTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun step(number: Int, loss: String = "$number.5") =
        """{"type":"step","step":$number,"t":1,"seconds":1.5,"loss":$loss,"tokens":10,"labelled":8,"peak":1000}""" + "\n"

    private fun trace(): File = File(temporary.root, "trace.jsonl")

    @Test
    fun `follows what is added and bears a torn line`() {
        val file = trace()
        val reader = TraceReader(file)
        assertTrue(reader.read().steps.isEmpty())
        val torn = step(2)
        file.writeText(step(1) + torn.take(30))
        assertEquals(listOf(1L), reader.read().steps.map { it.step })
        file.appendText(torn.drop(30) + "{\"type\":\"st\n" + step(3))
        assertEquals(listOf(1L, 2L, 3L), reader.read().steps.map { it.step })
    }

    @Test
    fun `what a state on storage wrote is added up, steps that are repeated included`() {
        val file = trace()
        val spilled = { number: Int -> step(number).replace("\"peak\"", "\"state_bytes\":300,\"peak\"") }
        file.writeText(step(1) + spilled(2) + spilled(3))
        val reader = TraceReader(file)
        assertEquals(600L, reader.read().stateBytes)
        file.appendText(spilled(3) + step(4))
        assertEquals(900L, reader.read().stateBytes)
        file.writeText(step(1))
        assertEquals(0L, reader.read().stateBytes)
    }

    @Test
    fun `steps that a killed run repeats count once`() {
        val file = trace()
        file.writeText((1..5).joinToString("") { step(it) } + step(4, "7.0"))
        val trace = TraceReader(file).read()
        assertEquals(listOf(1L, 2L, 3L, 4L), trace.steps.map { it.step })
        assertEquals(7f, trace.lastStep!!.loss)
    }

    @Test
    fun `evaluations that a killed run repeats count once`() {
        fun evaluation(step: Int, loss: String) = """{"type":"evaluation","step":$step,"loss":$loss}""" + "\n"
        val file = trace()
        file.writeText(
            evaluation(0, "4.0") + (1..4).joinToString("") { step(it) } + evaluation(4, "3.0") + step(5) +
                step(3) + step(4) + evaluation(4, "2.5"),
        )
        assertEquals(listOf(0L to 4f, 4L to 2.5f), TraceReader(file).read().evaluations)
    }

    @Test
    fun `a loss that is no number is a gap, and events know their step`() {
        val file = trace()
        file.writeText(
            """{"type":"event","t":1,"event":"paused","detail":"early"}""" + "\n" + step(1) +
                """{"type":"event","t":1,"event":"paused","detail":"late"}""" + "\n" + step(2, "null"),
        )
        val trace = TraceReader(file).read()
        assertEquals(1L, trace.lastStep!!.step)
        assertNull(trace.steps.last().loss)
        assertEquals(listOf(null, 1L), trace.events.map { it.step })
    }

    @Test
    fun `the tail is enough for the last step and goes on growing`() {
        val file = trace()
        file.writeText((1..1000).joinToString("") { step(it) })
        val reader = TraceReader(file, 500)
        val steps = reader.read().steps
        assertEquals(1000L, steps.last().step)
        assertTrue("${steps.size} steps were read", steps.size < 10)
        file.appendText(step(1001))
        assertEquals(1001L, reader.read().lastStep!!.step)
        file.writeText(step(1))
        assertEquals("a new trace of the same name", listOf(1L), reader.read().steps.map { it.step })
    }
}
